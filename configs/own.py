"""Your own data, as `python -m mmgrec_jax.prepare` wrote it.

Command:  python -m mmgrec_jax.main --config=configs/own.py --config.data=DIR
Data:     DIR holds interactions.npz and feat_<modality>.npy.
Run time: --dry_run says.
"""

from mmgrec_jax import config as configs


def get_config(preset: str = "") -> configs.Config:
  return configs.from_preset(
    {
      "name": "own",
      "published": "'python -m mmgrec_jax.prepare' makes it from your files",
    },
    preset,
  )
