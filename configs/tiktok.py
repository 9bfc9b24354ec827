"""TikTok micro-videos, at the paper's size (its Table 1).

Command:  python -m mmgrec_jax.main --config=configs/tiktok.py
          configs/tiktok.py:paper has the paper's optimiser and batch.
Data:     data/tiktok, or --config.data=DIR: interactions.npz and
          feat_<modality>.npy.
          36,656 users, 76,085 items, 726,065 interactions; visual,
          acoustic and text 128 each.
          Published with MMGCN (Wei et al. 2019), github.com/weiyinwei/MMGCN.
Scores:   not measured by us: the data cannot be redistributed.
"""

from mmgrec_jax import config as configs


def get_config(preset: str = "") -> configs.Config:
  return configs.from_preset(
    {
      "name": "tiktok",
      "data": "data/tiktok",
      "published": ("it is published with MMGCN (github.com/weiyinwei/MMGCN)"),
      "rqvae": {"codebook_size": 256},
      "generator": {"history_length": 32},
    },
    preset,
  )
