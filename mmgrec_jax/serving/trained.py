"""A trained run, read from its workdir; nothing is trained or written."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmgrec_jax import config as configs
from mmgrec_jax.data.dataset import TRAIN, Dataset
from mmgrec_jax.decoding.trie import build_trie
from mmgrec_jax.errors import UserError
from mmgrec_jax.files import read_json
from mmgrec_jax.models.generator import Generator, Vectors
from mmgrec_jax.recid.assign import RecIds, load_rec_ids
from mmgrec_jax.stages import generate, load, rankers, rescoring
from mmgrec_jax.stages.vectors import VECTORS, read_vectors
from mmgrec_jax.training.checkpoint import Checkpoints
from mmgrec_jax.training.generating import init_params
from mmgrec_jax.workdir import EXTENDED


class Trained(NamedTuple):
  """What a workdir belongs to."""

  folder: Path
  config: configs.Config
  data: Dataset


class Reloaded(NamedTuple):
  """A generator, its Rec-IDs and what its beam search reads."""

  model: Generator
  rec_ids: RecIds
  search: rankers.Search


def open_workdir(folder: Path, data: str | Path | None = None) -> Trained:
  """The run in a folder.

  Args:
    data: where the data set is now; default: where the run found it.

  Raises:
    UserError: there is no finished run, or its data has changed.
  """
  if not (folder / "config.json").is_file():
    raise UserError(
      f"{folder}: no config.json; a run writes it first; give the folder of"
      " one."
    )
  if not any((folder / name).is_file() for name in ("results.json", EXTENDED)):
    raise UserError(
      f"{folder}: no results.json; the run is not finished; give its command"
      " again."
    )
  config = read_config(folder)
  if data is not None:
    config.data = str(data)
  found = load.load_data(config)
  pinned = read_json(folder / "dataset.json", "run its command again")
  if found.fingerprint != pinned.get("fingerprint"):
    raise UserError(
      f"{folder}: the data in {config.data!r} is not what the run was trained"
      " on; give the folder of that."
    )
  return Trained(folder, config, found)


def read_config(folder: Path) -> configs.Config:
  """The run's; a setting that is younger than the run has its default.

  Raises:
    UserError: a setting of the run is none any more, or the run is older than
      MMGRec's choice of an embedding, when vectors were kept at another scale.
  """
  path = folder / "config.json"
  there = read_json(path, "give the folder of another run")
  there.setdefault("system", None)
  if there["system"] == "mmgrec" and "embedding" not in there:
    raise UserError(f"{folder}: an older version made it; run it again.")
  embedding = there.get("embedding", "gcn")
  known = there["system"] in ("mmgrec", *configs.SYSTEMS)
  if not known or embedding not in configs.EMBEDDINGS:
    raise UserError(
      f"{path}: damaged (system {there['system']!r}, embedding {embedding!r});"
      " give the folder of another run."
    )
  config = configs.default_config(there["system"], embedding)
  for key, value in configs.flatten(there):
    try:
      configs.set_value(config, key, value)
    except UserError as error:
      raise UserError(
        f"{path}: another version made it ({error}); run it again, in another"
        " folder."
      ) from error
  return config


def reload_generator(run: Trained) -> Reloaded:
  """The best checkpoint, with the run's Rec-IDs and vectors.

  Re-scoring is left out: `rescored` adds it as the run has it.

  Raises:
    UserError: there is no checkpoint, or a file is missing or damaged.
  """
  rec_ids = load_rec_ids(run.folder / "recids.npz", run.data.n_items)
  names = () if run.config.system == "tiger" else VECTORS
  h = read_vectors(vectors_file(run), run.data, names).values()
  vectors = Vectors(
    *map(jnp.asarray, h), tokens_IxM=jnp.asarray(rec_ids.tokens_IxM)
  )
  model = generate.build_generator(run.config, rec_ids, vectors)
  shapes = jax.eval_shape(
    lambda: init_params(model, vectors, jax.random.key(0))
  )
  params = best_of(run, "generate", shapes)
  trie = build_trie(rec_ids, run.config.generator.trie)
  return Reloaded(model, rec_ids, rankers.Search(params, vectors, trie))


def best_of(run: Trained, stage: str, shapes: Any) -> Any:
  """The best parameters that a stage has left (host).

  Raises:
    UserError: there is no checkpoint.
  """
  params = None
  if (run.folder / stage).is_dir():
    checkpoints = Checkpoints(run.folder / stage)
    params = checkpoints.best(shapes)
    checkpoints.close()
  if params is None:
    raise UserError(f"{run.folder}: no checkpoint in {stage}/.")
  return params


def vectors_file(run: Trained) -> Path:
  """Where h_user and h_item are."""
  embed = run.config.system in ("mmgrec", "tiger")
  return run.folder / ("embed/vectors.npz" if embed else "vectors.npz")


def known_users(run: Trained) -> np.ndarray:
  """Who has a vector that is of items they had, in training or since. [U].

  Raises:
    UserError: the file that says so is missing or damaged.
  """
  kept = _kept(run, "known_users")
  return run.data.rows(TRAIN).lengths > 0 if kept is None else kept


def trained_items(run: Trained) -> np.ndarray:
  """Whose vectors were trained. bool [I].

  Raises:
    UserError: the file that says so is missing or damaged.
  """
  kept = _kept(run, "trained_items")
  return run.data.popularity() > 0 if kept is None else kept


def _kept(run: Trained, name: str) -> np.ndarray | None:
  """What extending wrote beside the vectors; None: it is no such run."""
  if not (run.folder / EXTENDED).is_file():
    return None
  return read_vectors(vectors_file(run), run.data, [name])[name]


def wants_mix(config: configs.Config) -> bool:
  """Whether a run's beams are re-scored."""
  return bool(
    "rescore" in config.evaluation and config.evaluation.rescore.scores
  )


def rescored(run: Trained, search: rankers.Search) -> rankers.Search:
  """With the mix of rescore.json, if the run's settings want one.

  Raises:
    UserError: it is missing, damaged or of an earlier version, or a file that
      has a part in the mix is missing or damaged.
  """
  if not wants_mix(run.config):
    return search
  found = rescoring.read_found(run.folder)
  return rescoring.read_mix(run.folder, search, found, run.data.n_items)
