"""The baselines by the names that configs give them."""

from collections.abc import Callable

from mmgrec_jax.config import Config
from mmgrec_jax.models.collaborative import bpr_objective
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

# The losses of those that are not trained by BPR.
OBJECTIVES: dict[str, Callable] = {}


def build_model(config: Config):
  """The module that `config.system` and `config.model` describe."""
  own = own_settings(config.system, config.model)
  return MODELS[config.system](width=config.width, **own)


def objective_of(config: Config) -> Callable:
  """The loss that `config.system` is trained with."""
  return OBJECTIVES.get(config.system, bpr_objective)
