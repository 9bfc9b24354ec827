"""The baselines by the names that configs give them."""

from mmgrec_jax.config import Config
from mmgrec_jax.models.gat import GAT
from mmgrec_jax.models.graphsage import GraphSAGE
from mmgrec_jax.models.lightgcn import LightGCN
from mmgrec_jax.models.mf import MF
from mmgrec_jax.models.ngcf import NGCF
from mmgrec_jax.models.settings import own_settings

MODELS = {
  "mf": MF,
  "lightgcn": LightGCN,
  "graphsage": GraphSAGE,
  "ngcf": NGCF,
  "gat": GAT,
}


def build_model(config: Config):
  """The module that `config.system` and `config.model` describe."""
  own = own_settings(config.system, config.model)
  return MODELS[config.system](width=config.width, **own)
