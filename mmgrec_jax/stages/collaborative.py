"""The one stage of a baseline: trained vectors of users and items."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mmgrec_jax.arrays import write_arrays
from mmgrec_jax.config import Config, model_name
from mmgrec_jax.data import sampling
from mmgrec_jax.data.dataset import TRAIN, Dataset
from mmgrec_jax.evaluation.evaluate import valid_recall
from mmgrec_jax.files import is_made
from mmgrec_jax.graph import bipartite_graph
from mmgrec_jax.models import collaborative, invrl
from mmgrec_jax.models.table import build_model, objective_of
from mmgrec_jax.stages.load import normalised_features, stage_key
from mmgrec_jax.stages.rankers import inner_product_ranker
from mmgrec_jax.stages.train import train
from mmgrec_jax.stages.vectors import read_vectors
from mmgrec_jax.training import parallel
from mmgrec_jax.training.collaborative import collaborative_task
from mmgrec_jax.training.invrl import mask_schedule, mask_task
from mmgrec_jax.training.loop import Schedule
from mmgrec_jax.workdir import Workdir


def make_inputs(config: Config, data: Dataset) -> collaborative.Inputs:
  """What the model reads of a data set."""
  inputs = collaborative.Inputs(
    graph=bipartite_graph(
      *data.edges(TRAIN), data.n_users, data.n_items, config.graph
    ),
    features={
      name: jax.device_put(x)  # asarray would hold a second copy for a while
      for name, x in normalised_features(config, data).items()
    },
    interactions=sampling.on_device(data.rows(TRAIN), data.n_items),
    epoch_starts=jnp.array(False),
  )
  return collaborative.prepare(build_model(config), inputs)


def train_baseline(
  config: Config, data: Dataset, folder: Workdir
) -> tuple[np.ndarray, np.ndarray]:
  """h_user and h_item of the best epoch, or read from vectors.npz."""
  path = folder.path / "vectors.npz"
  if not is_made(path):
    h_user, h_item = train_vectors(config, data, folder)
    write_arrays(path, {"user": h_user, "item": h_item})
  h_user, h_item = read_vectors(path, data).values()
  return h_user, h_item


def train_vectors(
  config: Config, data: Dataset, folder: Workdir
) -> tuple[np.ndarray, np.ndarray]:
  """h_user and h_item of the best epoch of what `config.model` describes."""
  model, inputs = build_model(config), make_inputs(config, data)
  name = model_name(config)
  if name == "invrl" and inputs.features:
    pretrained, _ = _fit(
      config, data, folder, f"{name}_pretrain", model, inputs, purpose=2
    )
    inputs = _mask_features(config, folder, model, inputs, pretrained)
  _, h = _fit(config, data, folder, name, model, inputs, purpose=0)
  return h


def _fit(
  config: Config,
  data: Dataset,
  folder: Workdir,
  name: str,
  model: nn.Module,
  inputs: collaborative.Inputs,
  purpose: int,
) -> tuple[Any, tuple[np.ndarray, np.ndarray]]:
  """Trains a model. Returns the best epoch's parameters and vectors."""
  vectors_of = parallel.everywhere(
    lambda params, inputs: collaborative.embed_everyone(model, params, inputs)
  )
  inputs_on_all = parallel.replicate(inputs)
  ranker = inner_product_ranker(config, data, k=10)

  def validate(params) -> float:
    return valid_recall(ranker, vectors_of(params, inputs_on_all), data)

  task = collaborative_task(
    name,
    model,
    inputs,
    config.model,
    validate,
    stage_key(config, purpose),
    objective_of(config),
  )
  schedule = Schedule.of(config.model, config.train)
  best = train(folder, task, schedule, stage_key(config, purpose + 1))
  h = vectors_of(parallel.replicate(best), inputs_on_all)
  return best, parallel.unreplicate(h)


def _mask_features(
  config: Config,
  folder: Workdir,
  model: invrl.InvRL,
  inputs: collaborative.Inputs,
  pretrained: Any,
) -> collaborative.Inputs:
  """InvRL's middle: the features, each times its mask."""
  name = f"{model_name(config)}_mask"
  task = mask_task(
    name, model, pretrained, inputs, config.model, stage_key(config, 4)
  )
  schedule = mask_schedule(config.model.mask, config.train)
  params = train(folder, task, schedule, stage_key(config, 5))
  masks = invrl.by_modality(invrl.gate(params["mu"]), inputs.features)
  return inputs.replace(  # type: ignore
    features={m: x * masks[m][None] for m, x in inputs.features.items()}
  )
