"""The baselines by the names that configs give them."""

from collections.abc import Callable

from mmgrec_jax.config import Config, model_name
from mmgrec_jax.models.collaborative import ranking_objective
from mmgrec_jax.models.gat import GAT
from mmgrec_jax.models.graphsage import GraphSAGE
from mmgrec_jax.models.grcn import GRCN
from mmgrec_jax.models.invrl import InvRL, ultragcn_objective
from mmgrec_jax.models.lattice import LATTICE
from mmgrec_jax.models.lightgcn import LightGCN
from mmgrec_jax.models.lightgt import LightGT
from mmgrec_jax.models.mf import MF
from mmgrec_jax.models.mmgcn import MMGCN
from mmgrec_jax.models.ngcf import NGCF
from mmgrec_jax.models.settings import own_settings
from mmgrec_jax.models.vbpr import VBPR

MODELS = {
  "mf": MF,
  "graphsage": GraphSAGE,
  "ngcf": NGCF,
  "gat": GAT,
  "lightgcn": LightGCN,
  "vbpr": VBPR,
  "mmgcn": MMGCN,
  "grcn": GRCN,
  "lattice": LATTICE,
  "invrl": InvRL,
  "lightgt": LightGT,
}

# The losses of those that are not trained by BPR.
OBJECTIVES = {"invrl": ultragcn_objective}


def build_model(config: Config):
  """The module that `config.model` describes."""
  name = model_name(config)
  own = own_settings(name, config.model)
  return MODELS[name](width=config.width, **own)


def objective_of(config: Config) -> Callable:
  """The loss that it is trained with."""
  return OBJECTIVES.get(model_name(config), ranking_objective)
