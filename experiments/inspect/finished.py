"""A finished run, read from its workdir."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmgrec_jax import config as configs
from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.decoding.trie import Trie, build_trie
from mmgrec_jax.errors import UserError
from mmgrec_jax.models.generator import Generator, Vectors
from mmgrec_jax.recid.assign import RecIds, load_rec_ids
from mmgrec_jax.stages import generate, load
from mmgrec_jax.training.checkpoint import Checkpoints
from mmgrec_jax.training.generating import init_params


class Finished(NamedTuple):
  """per_user: what per_user.npz holds of the last split, without its name."""

  folder: Path
  config: configs.Config
  data: Dataset
  split: str
  results: dict[str, Any]
  per_user: dict[str, np.ndarray]

  @property
  def users(self) -> np.ndarray:
    return self.per_user["users"]

  @property
  def lists(self) -> dict[str, np.ndarray]:
    """Recommended items [N, K] of every system."""
    return {
      name.removesuffix("/items"): items
      for name, items in self.per_user.items()
      if name.endswith("/items")
    }


class Reloaded(NamedTuple):
  """A generator and what it needs; `arguments` are those of a ranker."""

  model: Generator
  rec_ids: RecIds
  params: Any
  vectors: Vectors
  trie: Trie

  @property
  def arguments(self) -> tuple[Any, Vectors, Trie]:
    return self.params, self.vectors, self.trie


def read_finished(folder: Path) -> Finished:
  """What a workdir tells.

  Raises:
    UserError: it is no finished run of a generator, or its data has changed.
  """
  if not (folder / "results.json").is_file():
    raise UserError(f"{folder}: no results.json; finish the run first.")
  config = read_config(folder)
  if "generator" not in config:
    raise UserError(f"{folder}: {config.system} has no generator to look into.")
  results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
  data = load.load_data(config)
  if data.fingerprint != results["dataset"]["fingerprint"]:
    raise UserError(
      f"{folder}: the data in {config.data!r} is not what the run was trained"
      " on."
    )
  split = config.evaluation.splits[-1]
  with np.load(folder / "per_user.npz", allow_pickle=False) as saved:
    per_user = {
      name.removeprefix(f"{split}/"): saved[name]
      for name in saved
      if name.startswith(f"{split}/")
    }
  return Finished(folder, config, data, split, results, per_user)


def read_config(folder: Path) -> configs.Config:
  """The run's; a setting that is younger than the run has its default.

  Raises:
    UserError: the run is older than MMGRec's choice of an embedding, when
      vectors were kept at another scale.
  """
  there = json.loads((folder / "config.json").read_text(encoding="utf-8"))
  if there["system"] == "mmgrec" and "embedding" not in there:
    raise UserError(f"{folder}: an older version made it; run it again.")
  embedding = there.get("embedding", "gcn")
  config = configs.default_config(there["system"], embedding)
  for key, value in configs.flatten(there):
    configs.set_value(config, key, value)
  return config


def reload_generator(run: Finished) -> Reloaded:
  """The best checkpoint, with the run's Rec-IDs and vectors.

  Raises:
    UserError: there is no checkpoint.
  """
  rec_ids = load_rec_ids(run.folder / "recids.npz")
  with np.load(run.folder / "embed" / "vectors.npz") as saved:
    h = [jnp.asarray(saved[name]) for name in ("user", "item") if name in saved]
  # TIGER has no h.
  vectors = Vectors(*h, tokens_IxM=jnp.asarray(rec_ids.tokens_IxM))
  model = generate.build_generator(run.config, run.data, rec_ids)
  shapes = jax.eval_shape(
    lambda: init_params(model, vectors, jax.random.key(0))
  )
  params = None
  if (run.folder / "generate").is_dir():
    checkpoints = Checkpoints(run.folder / "generate")
    params = checkpoints.best(shapes)
    checkpoints.close()
  if params is None:
    raise UserError(f"{run.folder}: no checkpoint in generate/.")
  trie = build_trie(rec_ids, run.config.generator.trie)
  return Reloaded(model, rec_ids, params, vectors, trie)
