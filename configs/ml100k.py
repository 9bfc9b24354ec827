"""draft"""
from mmgrec_jax import config as configs
def get_config(preset=""):
  return configs.merge({"name": "ml100k", "data": "data/ml100k"})
