"""Damaged files of a run, of an export, of an encoder: each is read or named.

Arrays are damaged with a right checksum as well, or it alone would be tested.
"""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import compare_report, runs
from mmgrec_jax.arrays import write_arrays
from mmgrec_jax.config import default_config
from mmgrec_jax.data import encoding
from mmgrec_jax.data.folder import save_dataset
from mmgrec_jax.data.synthetic import make_synthetic
from mmgrec_jax.files import sha256
from mmgrec_jax.recid.assign import assign_rec_ids, load_rec_ids, save_rec_ids
from mmgrec_jax.report import page
from mmgrec_jax.serving import exported, trained
from mmgrec_jax.stages import (
  content,
  item_item,
  rescoring,
  results,
  teaching,
  vectors,
)
from mmgrec_jax.stages.rankers import Search
from mmgrec_jax.workdir import Workdir

DATA = make_synthetic(6, 5, 3, n_tastes=2, seed=1)
U, I, S = DATA.n_users, DATA.n_items, 2  # noqa: E741
CONFIG = default_config()
NAMES = [f"{m}@{k}" for k in (10, 20) for m in ("recall", "ndcg")]
SYSTEMS = ("popularity", "mmgrec")


def write_run(folder):
  """What a run of mmgrec leaves, without checkpoints."""
  rng = np.random.default_rng(0)
  CONFIG.evaluation.cutoffs = (10, 20)
  save_dataset(DATA, folder / "data")
  CONFIG.data = str(folder / "data")
  run = Workdir(folder / "run", CONFIG, DATA)
  codes = rng.integers(0, 4, (I, S))
  h = {name: rng.normal(size=(n, 3)) for name, n in (("user", U), ("item", I))}
  of_h = {**h, "codes": codes, "r2": np.array(0.5)}
  known = {"known_users": np.ones(U, bool), "trained_items": np.ones(I, bool)}
  write_arrays(run.path / "embed" / "vectors.npz", of_h | known)
  write_arrays(run.path / "vectors.npz", h)
  rec_ids = assign_rec_ids(codes, 4, np.arange(I))
  save_rec_ids(rec_ids, run.path / "recids.npz")
  features = {name: rng.normal(size=(I, 3)) for name in ("text", "visual")}
  content.save_content(CONFIG, features, run.path)
  write_arrays(run.path / "item_item.npz", {"weight_IxI": np.eye(I)[::-1]})
  likely = rng.integers(-1, I, (U, 3))
  logits = np.zeros((U, 3), np.float32)
  write_arrays(run.path / "teacher.npz", {"item": likely, "logit": logits})
  users = np.arange(1, U)
  per_user = {"test/users": users}
  for system in SYSTEMS:
    lists = rng.integers(-1, I, (len(users), 20))
    per_user[f"test/{system}/items"] = lists
    per_user |= {f"test/{system}/{name}": rng.random(U - 1) for name in NAMES}
  write_arrays(run.path / "per_user.npz", per_user)
  write_json(run)
  return run.path


def write_json(run):
  scores = {system: dict.fromkeys(NAMES, 0.25) for system in SYSTEMS}
  found = {
    "dataset": DATA.statistics(), "valid": scores, "test": scores,
    "seconds": {"embed": 1.5, "generate": 2},
    "seconds_per_1000_users": dict.fromkeys(SYSTEMS, 0.1),
  }  # fmt: skip
  run.write_json("results.json", found)
  run.write_json("seconds.json", found["seconds"])
  mix = {"beams": 0.5, "embedding": 1.5, "text nearest": 0.25, "ease": 0.75}
  run.write_json("rescore.json", {"without_ease": mix, "mmgrec": mix})
  health = {
    "r2": 0.5, "usage": [0.5, 1.0], "perplexity": [2.0, 3.5],
    "collision_rate": 0.2, "groups": 4, "largest_group": 2,
  }  # fmt: skip
  run.write_json("recid_health.json", health)
  lines = [
    {"stage": "generate", "epoch": n, "loss": 1.5 / (n + 1), "valid": 0.1}
    for n in range(3)
  ]
  text = "\n".join(map(json.dumps, lines))
  (run.path / "metrics.jsonl").write_text(text)


NOTHING: Any = None
SEARCH = Search(NOTHING, NOTHING, NOTHING)


def read_results(path):
  found = results.read_results(CONFIG, path.parent)
  page.data_table(found["dataset"])
  page.scores(found, "test")
  page.seconds(found)


def read_mix(path):
  found = rescoring.read_found(path.parent)
  rescoring.shares(found["mmgrec"])
  rescoring.read_mix(path.parent, SEARCH, found, I)


def read_seconds(path):
  run = object.__new__(Workdir)
  run.path = path.parent
  assert sum(run.seconds().values()) < 1e301


def read_health(path):
  run = path.parent if path.suffix == ".json" else path.parents[1]
  rec_ids = load_rec_ids(run / "recids.npz", I)
  page.rec_id_health(CONFIG, DATA, rec_ids, run)


def read_compared(path):
  run = runs.Run("mmgrec", "mmgrec", 0, path.parent, [])
  (scored,) = compare_report.by_row([run])["mmgrec"].values()
  scored.per_user("recall@10")


def read_table(path):
  page.examples(CONFIG, DATA, path.parent, "mmgrec")


READERS = {
  "embed/vectors.npz": (
    lambda path: vectors.read_vectors(path, DATA, vectors.FORMS, L=4), 900
  ),
  "vectors.npz": (lambda path: vectors.read_vectors(path, DATA), 300),
  "recids.npz": (lambda path: load_rec_ids(path, I), 1200),
  "content.npz": (lambda path: content.read_content(path, I), 900),
  "item_item.npz": (
    lambda path: item_item.read_matrix(path, "ease", I), 400
  ),
  "teacher.npz": (lambda path: teaching.read_teacher(path, DATA), 400),
  "per_user.npz": (read_table, 500),
  "results.json": (read_results, 120),
  "rescore.json": (read_mix, 500),
  "seconds.json": (read_seconds, 500),
  "recid_health.json": (read_health, 200),
  "metrics.jsonl": (page.curves, 120),
  "config.json": (lambda path: trained.open_workdir(path.parent), 150),
  "dataset.json": (lambda path: trained.open_workdir(path.parent), 60),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_a_run(name, tmp_path, fuzz, monkeypatch):
  if name == "recid_health.json":  # they read none of it, and take long
    for figure in ("usage_bars", "group_sizes", "item_map", "svg"):
      monkeypatch.setattr(page.figures, figure, lambda *_: "")
  monkeypatch.setattr(page.figures, "svg", lambda figure: "")
  read, times = READERS[name]
  ways = "bytes arrays arrays" if name.endswith("z") else "bytes json json"
  fuzz(write_run(tmp_path) / name, read, times, ways)


@pytest.mark.parametrize("name", ["results.json", "per_user.npz"])
def test_a_run_that_is_compared(name, tmp_path, fuzz):
  ways = "bytes arrays arrays" if name.endswith("z") else "bytes json json"
  fuzz(write_run(tmp_path) / name, read_compared, 200, ways)


def test_a_map_of_items(tmp_path, fuzz, monkeypatch):
  monkeypatch.setattr(page.figures, "svg", lambda figure: "")
  path = write_run(tmp_path) / "embed" / "vectors.npz"
  fuzz(path, read_health, 50, "arrays")


def test_a_chunk_of_an_encoder(tmp_path, fuzz):
  encoder = encoding.Encoder("text", "a", NOTHING, NOTHING)
  chunks = encoding._Chunks(tmp_path, encoder)
  keys = [[bytes(f"{n:032}", "ascii")] for n in range(2)]
  for key in keys:
    chunks.write(key, np.ones((1, 3), np.float32))

  def read(path):
    del path
    chunks.keys()
    chunks.collect({key[0]: n for n, key in enumerate(keys)}, 2)

  fuzz(chunks.paths[1], read, 900, "bytes arrays arrays")


def write_export(folder):
  """Items in the order of their weights, as one program."""

  def program(leaves, user_B, history_BxH):
    del history_BxH
    scores, items = jax.lax.top_k(leaves[0], 2)
    both = jnp.ones_like(user_B)[:, None]
    return both * items[None], both * scores[None]

  (batch,) = jax.export.symbolic_shape("b")
  shaped = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
  weight_I = np.arange(float(I), dtype=np.float32)
  lowered = jax.export.export(jax.jit(program))(
    [jax.ShapeDtypeStruct((I,), jnp.float32)], shaped(batch), shaped(batch, 4)
  )
  (folder / exported.PROGRAM).write_bytes(lowered.serialize())
  write_arrays(folder / exported.WEIGHTS, {"0000": weight_I})
  rows = DATA.rows(0)
  ids = {
    "user_ids": DATA.user_ids, "item_ids": DATA.item_ids,
    "titles": DATA.names, "offset": rows.offset, "seen": rows.items,
    "rec_ids": np.eye(I, 3, dtype=np.int32),
  }  # fmt: skip
  write_arrays(folder / exported.IDS, ids)
  sign(folder)


def sign(folder: Path):
  digests = {name: sha256(folder / name) for name in exported.FILES}
  about = {"name": "a", "k": 2, "longest": 4, "sha256": digests}
  (folder / exported.ABOUT).write_text(json.dumps(about))


@pytest.mark.parametrize(
  ("name", "times", "ways"),
  [
    (exported.ABOUT, 500, "bytes json"),
    (exported.PROGRAM, 900, "bytes"),
    (exported.WEIGHTS, 400, "bytes arrays"),
    (exported.IDS, 600, "bytes arrays arrays"),
  ],
)
def test_an_export(name, times, ways, tmp_path, fuzz):
  write_export(tmp_path)
  (one,) = exported.ExportedRecommender(tmp_path).recommend(["user1"])
  assert one.items.tolist() == DATA.item_ids[[4, 3]].tolist()

  def read(path):
    if path.name != exported.ABOUT:
      sign(path.parent)
    served = exported.ExportedRecommender(path.parent)
    served.catalogue.history_rows([])

  fuzz(tmp_path / name, read, times, ways)
