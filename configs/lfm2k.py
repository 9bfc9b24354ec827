"""Last.FM-2K artists with text and audio features.

Command:  python -m mmgrec_jax.main --config=configs/lfm2k.py --config.data=DIR
Data:     1,858 users, 1,425 artists, 56,345 interactions, published 80/10/10
          split; Last.FM-2K is from HetRec 2011, the features from Zenodo record
          15403972. DIR holds interactions.npz and feat_<modality>.npy.
Run time: 5 minutes on 2 CPU cores.
Scores:   test Recall@10 / NDCG@10, seed 0: popularity .0773 / .0571, embedding
          .3180 / .2675, generator .3046 / .2564, mmgrec .3231 / .2746.
"""

from mmgrec_jax import config as configs


def get_config(preset: str = "") -> configs.Config:
  return configs.from_preset(
    {
      "name": "lfm2k",
      "data": "data/lfm2k",
      "published": (
        "Last.FM-2K with features is published as Zenodo record 15403972"
      ),
      "generator": {"history_length": 24},
      "models": {
        "mf": {"l2": 0.15},
        "ngcf": {"l2": 0.15},
        "vbpr": {"l2": 0.15},
        "grcn": {"optimizer": {"learning_rate": 2e-3}},
        "tiger": {"generator": {"epochs": 120}},
      },
    },
    preset,
  )
