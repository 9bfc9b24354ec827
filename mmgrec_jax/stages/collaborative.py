"""The one stage of a baseline: trained vectors of users and items."""

import jax
import jax.numpy as jnp
import numpy as np

from mmgrec_jax.config import Config
from mmgrec_jax.data import sampling
from mmgrec_jax.data.dataset import TRAIN, Dataset
from mmgrec_jax.evaluation.evaluate import evaluate
from mmgrec_jax.files import write_arrays
from mmgrec_jax.graph import bipartite_graph
from mmgrec_jax.models import collaborative
from mmgrec_jax.models.table import build_model, objective_of
from mmgrec_jax.stages.embed import inner_product_ranker
from mmgrec_jax.stages.load import normalised_features, stage_key
from mmgrec_jax.training import parallel
from mmgrec_jax.training.checkpoint import Checkpoints
from mmgrec_jax.training.collaborative import collaborative_task
from mmgrec_jax.training.loop import Schedule, fit
from mmgrec_jax.training.writer import Writer
from mmgrec_jax.workdir import Workdir


def make_inputs(config: Config, data: Dataset) -> collaborative.Inputs:
  """What every model reads of a data set."""
  return collaborative.Inputs(
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


def train_baseline(
  config: Config, data: Dataset, folder: Workdir
) -> tuple[np.ndarray, np.ndarray]:
  """h_user and h_item of the best epoch, or read from vectors.npz."""
  path = folder.path / "vectors.npz"
  if not path.is_file():
    h_user, h_item = _train(config, data, folder)
    write_arrays(path, {"user": h_user, "item": h_item})
  with np.load(path, allow_pickle=False) as saved:
    return saved["user"], saved["item"]


def _train(
  config: Config, data: Dataset, folder: Workdir
) -> tuple[np.ndarray, np.ndarray]:
  model, inputs = build_model(config), make_inputs(config, data)
  vectors_of = parallel.everywhere(
    lambda params, inputs: collaborative.embed_everyone(model, params, inputs)
  )
  inputs_on_all = parallel.replicate(inputs)
  ranker = inner_product_ranker(config, data, k=10)

  def validate(params) -> float:
    h = vectors_of(params, inputs_on_all)
    return float(evaluate(ranker, h, data, "valid", [10])["recall@10"].mean())

  task = collaborative_task(
    config.system,
    model,
    inputs,
    config.model,
    validate,
    stage_key(config, 0),
    objective_of(config),
  )
  best, progress = fit(
    task,
    Schedule.of(config.model, config.train),
    Checkpoints(folder.path / config.system),
    Writer(folder.path / "metrics.jsonl"),
    stage_key(config, 1),
  )
  folder.note_seconds(config.system, progress.seconds)
  return parallel.unreplicate(
    vectors_of(parallel.replicate(best), inputs_on_all)
  )
