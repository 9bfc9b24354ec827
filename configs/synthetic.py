"""A small made-up catalogue with planted tastes: a check that all works.

Command:  python -m mmgrec_jax.main --config=configs/synthetic.py
Data:     none needed; config.synthetic sets the size.
Run time: a minute on 2 CPU cores.
"""

from mmgrec_jax import config as configs


def get_config(preset: str = "") -> configs.Config:
  return configs.from_preset(
    {
      "name": "synthetic",
      "data": "synthetic",
      "embed": {"epochs": 10},
      "models": {"lattice": {"epochs": 20}},
      "rqvae": {"epochs": 10, "codebook_size": 32},
      "generator": {"epochs": 8, "history_length": 24},
    },
    preset,
  )
