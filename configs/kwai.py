"""Kwai micro-videos, at the paper's size (its Table 1).

Command:  python -m mmgrec_jax.main --config=configs/kwai.py
          configs/kwai.py:paper has the paper's optimiser and batch.
Data:     data/kwai, or --config.data=DIR: interactions.npz and
          feat_<modality>.npy.
          7,010 users, 86,483 items, 298,492 interactions; visual 2048,
          text 128, no audio.
          Published for research by Kwai, www.kwai.com.
Scores:   not measured by us: the data cannot be redistributed.
"""

from mmgrec_jax import config as configs


def get_config(preset: str = "") -> configs.Config:
  return configs.from_preset(
    {
      "name": "kwai",
      "data": "data/kwai",
      "published": ("it is published for research by Kwai, www.kwai.com"),
      "rqvae": {"codebook_size": 256},
      "generator": {"history_length": 32},
    },
    preset,
  )
