"""draft"""
from mmgrec_jax import config as configs
def get_config(preset=""):
  return configs.merge({"name": "synthetic", "data": "synthetic", "embed":{"epochs":5},"generator":{"epochs":5},"rqvae":{"epochs":5}})
