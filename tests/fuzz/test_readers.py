"""Files with random damage: every reader reads them or says what is wrong."""

import json
import pickle
import warnings

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from mmgrec_jax.data import content, published, safe_pickle, tables
from mmgrec_jax.data.folder import load_dataset, save_dataset
from mmgrec_jax.errors import UserError
from mmgrec_jax.files import read_array
from mmgrec_jax.recid.assign import assign_rec_ids, load_rec_ids, save_rec_ids
from mmgrec_jax.serving import exported, trained

MUTATIONS = 20_000
ITEMS = np.array([f"i{n}" for n in range(6)])


def damaged(content, rng):
  """One to three cuts, flips, insertions, repetitions or other numbers."""
  data = bytearray(content)
  for _ in range(rng.integers(1, 4)):
    at = int(rng.integers(0, len(data) + 1))
    size = int(rng.integers(1, 9))
    kind = rng.integers(0, 6)
    if kind == 0:
      data = data[:at]
    elif kind == 1 and data:
      data[min(at, len(data) - 1)] ^= 1 << int(rng.integers(0, 8))
    elif kind == 2:
      data[at:at] = rng.bytes(size)
    elif kind == 3:
      del data[at : at + size]
    elif kind == 4:
      data[at:at] = data[max(at - size, 0) : at]
    else:  # digits count, such as shapes and ids
      places = [i for i, byte in enumerate(data) if 48 <= byte < 58]
      if places:
        data[places[int(rng.integers(len(places)))]] = 48 + rng.integers(10)
  return bytes(data)


def write_folder(folder, data):
  save_dataset(data, folder)
  meta = json.loads((folder / "meta.json").read_text())
  del meta["sha256"]  # or nothing but the digest would be tested
  (folder / "meta.json").write_text(json.dumps(meta))


def frame():
  return pl.DataFrame(
    {"user": ["a", "b", "b"], "item": ["i1", "i2", "i3"], "x": [1.5, 2.0, 3.0]}
  )


def read_table(path):
  tables.read(path, ["user", "item"])


def read_mmgcn(path):
  published.read_mmgcn(path.parent, "mine")


def read_pickle(path):
  safe_pickle.edges(path, safe_pickle.load_pickle(path))


def make(name, folder, data):
  """(file to damage, its reader) of each kind."""
  if name.startswith("folder/"):
    write_folder(folder / "set", data)
    return folder / "set" / name[7:], lambda path: load_dataset(path.parent)
  path = folder / name
  if path.suffix == ".pkl":
    path.write_bytes(pickle.dumps(sparse.csr_matrix(np.eye(5)), int(name[0])))
    return path, read_pickle
  if name == "recids.npz":
    codes = np.arange(12).reshape(6, 2) % 4
    save_rec_ids(assign_rec_ids(codes, 4, np.arange(6)), path)
    return path, load_rec_ids
  if name == "a.npy":
    np.save(path, np.arange(12.0).reshape(6, 2))
    return path, read_array
  if name == "train.npy":
    np.save(path, np.array([[0, 4], [1, 5], [2, 6], [3, 4]]))
    for split in ("val", "test"):
      np.save(folder / f"{split}_full.npy", np.array([[0], [1]]))
    return path, read_mmgcn
  if name == "config.json":
    (folder / "results.json").write_text("{}")
    path.write_text(json.dumps({"system": "mf", "data": "gone", "width": 8}))
    return path, lambda path: trained.open_workdir(path.parent)
  if name == "about.json":
    path.write_text(json.dumps({"k": 3, "longest": 4, "sha256": {}}))
    return path, lambda path: exported.ExportedRecommender(path.parent)
  if name == "feature.parquet":
    frame().rename({"x": "f0"}).drop("user").write_parquet(path)
    return path, lambda path: content.read_feature(path, None, "item", ITEMS)
  write = {
    ".csv": frame().write_csv,
    ".tsv": lambda path: frame().write_csv(path, separator="\t"),
    ".jsonl": frame().write_ndjson,
    ".parquet": frame().write_parquet,
  }
  write[path.suffix](path)
  return path, read_table


KINDS = (
  "folder/interactions.npz", "folder/feat_text.npy", "folder/user_ids.npy",
  "folder/meta.json", "recids.npz", "2.pkl", "5.pkl", "a.npy", "train.npy",
  "config.json", "about.json", "clicks.csv", "clicks.tsv", "clicks.jsonl",
  "clicks.parquet", "feature.parquet",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_read_or_named(kind, tmp_path, small_data, rng):
  path, read = make(kind, tmp_path, small_data)
  whole = path.read_bytes()
  refused = 0
  for _ in range(MUTATIONS // len(KINDS)):
    path.write_bytes(damaged(whole, rng))
    try:
      with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read(path)
    except UserError as error:
      assert str(error).count("\n") == 0 or kind.startswith("clicks")
      refused += 1
  assert refused > 0
