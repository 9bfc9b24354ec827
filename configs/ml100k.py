"""MovieLens-100K with title text and genres: the demo.

Command:  make demo, or, once data/ml100k is there,
          python -m mmgrec_jax.main --config=configs/ml100k.py
Data:     python -m mmgrec_jax.data.ml100k --out=data/ml100k makes it.
          Published at grouplens.org/datasets/movielens (Harper and Konstan,
          2015).
Run time: 5 minutes on 2 CPU cores.
Scores:   test Recall@10 / NDCG@10, seed 0: popularity .1126 / .1292, embedding
          .2430 / .2749, generator .2312 / .2534, mmgrec .2495 / .2824.
"""

from mmgrec_jax import config as configs


def get_config(preset: str = "") -> configs.Config:
  return configs.from_preset(
    {
      "name": "ml100k",
      "data": "data/ml100k",
      "published": (
        "'python -m mmgrec_jax.data.ml100k' makes it from MovieLens-100K"
      ),
      "embed": {"batch_size": 8192, "epochs": 30},
      "generator": {
        "history_length": 64,
        "targets_per_history": 16,
        "epochs": 14,
      },
      "models": {
        "itemknn": {"shrink": 10.0},
        "ease": {"l2": 200.0},
        "mmgcn": {"l2": 0.1},
        "invrl": {"optimizer": {"learning_rate": 1e-3}},
        "lightgt": {"optimizer": {"learning_rate": 4e-2}},
        "tiger": {"generator": {"history_order": "random", "epochs": 56}},
      },
    },
    preset,
  )
