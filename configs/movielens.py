"""MovieLens with trailers, at the paper's size (its Table 1).

Command:  python -m mmgrec_jax.main --config=configs/movielens.py
          configs/movielens.py:paper has the paper's optimiser and batch.
Data:     data/movielens, or --config.data=DIR: interactions.npz and
          feat_<modality>.npy.
          55,485 users, 5,986 items, 1,239,508 interactions; visual
          2048, acoustic 128, text 100.
          Published with MMGCN (Wei et al. 2019), github.com/weiyinwei/MMGCN.
Scores:   not measured by us: the data cannot be redistributed.
"""

from mmgrec_jax import config as configs


def get_config(preset: str = "") -> configs.Config:
  return configs.from_preset(
    {
      "name": "movielens",
      "data": "data/movielens",
      "published": ("it is published with MMGCN (github.com/weiyinwei/MMGCN)"),
      "rqvae": {"codebook_size": 256},
      "generator": {"history_length": 32},
    },
    preset,
  )
