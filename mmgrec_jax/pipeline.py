"""A run: the stages in order, each skipped when its artefact is there."""

import contextlib
import dataclasses
import hashlib
import importlib.util
import io
import sys
import tempfile
from pathlib import Path

import jax.numpy as jnp

from mmgrec_jax import config as configs
from mmgrec_jax import hosts
from mmgrec_jax.config import Config
from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.decoding.trie import build_trie
from mmgrec_jax.errors import UserError
from mmgrec_jax.evaluation.evaluate import check_countable
from mmgrec_jax.evaluation.ranking import Ranker
from mmgrec_jax.models import settings as baselines
from mmgrec_jax.models.generator import Generator, Vectors
from mmgrec_jax.report import page, tables
from mmgrec_jax.stages import (
  collaborative,
  embed,
  generate,
  item_item,
  load,
  rankers,
  rec_ids,
  rescoring,
  results,
)
from mmgrec_jax.stages.rankers import Search
from mmgrec_jax.training import parallel, rehearsal
from mmgrec_jax.workdir import Workdir


def run(config: Config, path: str | Path, tensorboard: bool = False) -> dict:
  """Data -> the system, trained -> results, printed and returned.

  Args:
    config: as `config.default_config`; checked here.
    path: the workdir: new, or of an earlier run with the same settings and
      data, which then goes on where it was.
    tensorboard: write epochs for TensorBoard too.

  Returns:
    what `results.json` holds.

  Raises:
    UserError: bad settings or data, or a workdir of another run, or one in
      which a run is at work; no package for TensorBoard.
  """
  if tensorboard and importlib.util.find_spec("tensorboardX") is None:
    raise UserError(
      "--tensorboard needs a package that is not there: pip install"
      " 'mmgrec-jax[tensorboard]', or leave the flag out."
    )
  data = _begin(config)
  folder = Workdir(path, config, data, tensorboard)
  with folder.held(), parallel.shared_by(config.model_shards):
    # Each stage has its own sentence for it, what lies between them this one.
    with parallel.enough_memory("between stages", parallel.ANOTHER_DEVICE):
      systems = {
        "popularity": inner_product_system(
          config, data, results.popularity_vectors(data)
        ),
        **_train(config, data, folder),
      }
    with parallel.enough_memory("evaluation", parallel.FEWER_USERS):
      out = results.report_results(config, data, folder, systems)
    if hosts.is_first():
      page.write_report(config, data, folder.path)
    hosts.wait("report")
  print(
    f"\nArtefacts are in {folder.path}: report.html (look at it in a browser),"
    " results.json, per_user.npz, metrics.jsonl, vectors or Rec-IDs,"
    " checkpoints."
  )
  return out


def _begin(config: Config) -> Dataset:
  """Checks and reads; says what there is."""
  configs.check(config)
  data = load.load_data(config)
  check_countable(data, sorted({"valid", *config.evaluation.splits}))
  hosts.check_same(data.fingerprint, "The data set")
  settings = hashlib.sha256(configs.to_json(config).encode())
  hosts.check_same(settings.hexdigest(), "The config")
  print(tables.data_summary(data))
  print(f"devices: {', '.join(str(d) for d in parallel.devices())}")
  return data


def _train(config: Config, data: Dataset, folder: Workdir) -> dict:
  """Every system of the config, ready to be scored."""
  train = {
    "mmgrec": train_mmgrec,
    "tiger": train_tiger,
    **dict.fromkeys(baselines.ITEM_ITEM, make_item_item),
  }.get(config.system, train_baseline)
  return train(config, data, folder)


def dry_run(config: Config) -> None:
  """A few steps of every stage: what it takes is printed, nothing is written.

  Later stages see what those made of the earlier ones, so their Rec-IDs are
  poor; their cost hardly depends on it.

  Raises:
    UserError: bad settings or data.
  """
  if not hosts.alone():
    raise UserError("--dry_run is for one process; start one alone.")
  data = _begin(config)
  screen, found = sys.stdout, []

  def rehearse(task, schedule, key):
    params, measured = rehearsal.rehearse(task, schedule, key)
    found.append(measured)
    print(tables.rehearsal_line(measured), file=screen, flush=True)
    return params

  rough = config.copy_and_resolve_references()
  if "recid" in rough:
    rough.recid.ignore_health = True
  if "rescore" in rough.evaluation:
    rough.evaluation.rescore.scores = ()
    rough.generator.soft_targets.teacher = "vectors"
  with (
    parallel.shared_by(config.model_shards),
    tempfile.TemporaryDirectory() as scratch,
    contextlib.redirect_stdout(io.StringIO()),  # of the health of such Rec-IDs
    parallel.enough_memory("between stages", parallel.ANOTHER_DEVICE),
  ):
    _train(rough, data, Workdir(scratch, rough, data, rehearse=rehearse))
  print(tables.rehearsal_total(found))


def train_mmgrec(config: Config, data: Dataset, folder: Workdir) -> dict:
  """Vectors -> Rec-IDs -> generator; each system ready to be scored.

  `generator` is the beams as they are, `mmgrec` what re-scoring makes of them;
  without re-scoring the beams are `mmgrec`.
  """
  vectors = embed.embed(config, data, folder)
  model, search = train_generator(config, data, folder, vectors)
  systems = {
    "embedding": inner_product_system(
      config, data, (vectors.user_UxD, vectors.item_IxD)
    )
  }
  if not config.evaluation.rescore.scores:
    return {**systems, "mmgrec": beam_system(config, data, model, search)}
  rescored = rescoring.rescored_beams(config, data, folder, model, search)
  return {**systems, **rescored}


def train_tiger(config: Config, data: Dataset, folder: Workdir) -> dict:
  """Features -> Rec-IDs -> a generator that reads Rec-IDs as well."""
  embed.embed_features(config, data, folder)
  model, search = train_generator(config, data, folder, Vectors())
  return {"tiger": beam_system(config, data, model, search)}


def train_generator(
  config: Config, data: Dataset, folder: Workdir, vectors: Vectors
) -> tuple[Generator, Search]:
  """Rec-IDs, and the generator that writes them, with what it reads."""
  ids = rec_ids.make_rec_ids(config, data, folder)
  trie = build_trie(ids, config.generator.trie)
  model = generate.build_generator(config, ids, vectors)
  inputs = dataclasses.replace(vectors, tokens_IxM=jnp.asarray(ids.tokens_IxM))
  params = generate.train_generator(config, data, folder, model, inputs, trie)
  return model, Search(params, inputs, trie)


def beam_system(
  config: Config, data: Dataset, model: Generator, search: Search
) -> tuple[Ranker, Search]:
  """A generator's plain beams, ready to be scored."""
  width = config.evaluation.beam_width
  return rankers.beam_ranker(config, data, model, width), search


def inner_product_system(config: Config, data: Dataset, vectors) -> tuple:
  """Exact search for the largest h_u . h_i, ready to be scored."""
  k = max(config.evaluation.cutoffs)
  return rankers.inner_product_ranker(config, data, k), vectors


def train_baseline(config: Config, data: Dataset, folder: Workdir) -> dict:
  """One baseline, ready to be scored."""
  vectors = collaborative.train_baseline(config, data, folder)
  return {config.system: inner_product_system(config, data, vectors)}


def make_item_item(config: Config, data: Dataset, folder: Workdir) -> dict:
  """A matrix of items by items, ready to be scored."""
  matrix = item_item.make_matrix(config.system, config.model, data, folder)
  ranker = item_item.item_item_ranker(
    config, data, max(config.evaluation.cutoffs)
  )
  return {config.system: (ranker, matrix)}
