"""Damaged files of people and of publishers: each is read or named."""

import gzip
import importlib.util
import json
import pickle
from argparse import Namespace

import numpy as np
import polars as pl
import pytest
from PIL import Image
from scipy import sparse

from mmgrec_jax import recommend
from mmgrec_jax.arrays import read_array
from mmgrec_jax.data import content, published, safe_pickle, tables
from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.data.folder import load_dataset, save_dataset
from mmgrec_jax.data.interactions import read_interactions
from mmgrec_jax.data.pictures import open_picture
from mmgrec_jax.errors import UserError
from mmgrec_jax.report import page

ITEMS = np.array([f"i{n}" for n in range(6)])
FRAME = pl.DataFrame(
  {"user": ["a", "b", "b"], "item": ["i1", "i2", "i3"], "x": [1.5, 2.0, 3.0]}
)


def tiny() -> Dataset:
  """All that a folder can have."""
  user_E = np.repeat(np.arange(3), 3)
  return Dataset(
    name="tiny",
    user_E=user_E,
    item_E=(user_E + np.tile(np.arange(3), 3)) % 6,
    split_E=np.tile([0, 1, 2], 3).astype(np.int8),
    features={"text": np.arange(12.0, dtype=np.float32).reshape(6, 2)},
    user_ids=np.array(["u", "v", "w"]),
    item_ids=ITEMS,
    timestamp_E=np.arange(9),
    titles=np.array([f"title {n}" for n in range(6)]),
    pictures=np.array([f"{n}.png" for n in range(6)]),
  )


@pytest.mark.parametrize(
  ("name", "ways"),
  [
    ("interactions.npz", "bytes arrays"), ("meta.json", "bytes json"),
    ("feat_text.npy", "bytes"), ("user_ids.npy", "bytes"),
    ("item_ids.npy", "bytes"), ("titles.npy", "bytes"),
    ("pictures.npy", "bytes"),
  ],
)  # fmt: skip
@pytest.mark.parametrize("signed", [False, True])
def test_a_data_set(name, ways, signed, tmp_path, fuzz):
  save_dataset(tiny(), tmp_path / "set")
  meta = json.loads((tmp_path / "set" / "meta.json").read_text())
  if not signed:  # nothing but the digest would be tested
    del meta["sha256"]
    (tmp_path / "set" / "meta.json").write_text(json.dumps(meta))

  def read(path):
    data = load_dataset(path.parent)
    assert data.statistics() and data.rows_newest_first(None)

  fuzz(tmp_path / "set" / name, read, 50 if signed else 450, ways)


def write_matrix(path):
  protocol = int(path.stem)
  path.write_bytes(pickle.dumps(sparse.csr_matrix(np.eye(5)), protocol))


def read_matrix(path):
  safe_pickle.edges(path, safe_pickle.load_pickle(path))


def write_mmgcn(path):
  """As GRCN has it: item numbers go on from those of users."""
  folder = path.parent
  np.save(folder / "train.npy", np.array([[0, 4], [1, 5], [2, 6], [3, 4]]))
  for split in ("val", "test"):
    np.save(folder / f"{split}_full.npy", np.array([[0, 4], [1, 6]]))
  users = {user: [4 + user % 3] for user in range(4)}
  np.save(folder / "user_item_dict.npy", users, allow_pickle=True)  # type: ignore
  np.save(folder / "tiktok_t_64.npy", np.array([[0, 0, 1, 2], [7, 3, 7, 9]]))


def write_mmssl(path):
  for split in ("train", "val", "test"):
    path.with_stem(split).write_text('{"0": [0, 1], "1": [2]}')


def write_mmrec(path):
  rows = ["userID\titemID\tx_label\ttimestamp"]
  rows += [f"{n % 3}\t{n}\t{n % 3}\t{n}.5" for n in range(6)]
  path.write_text("\n".join(rows))


def write_recbole(path):
  heads = "user_id:token\titem_id:token\ttimestamp:float\n"
  path.write_text(heads + "a\tx\t1\nb\ty\t2\n")


def write_feature(path):
  """An .npy and the ids of its rows."""
  np.save(path.with_name("f.npy"), np.eye(6))
  np.save(path.with_name("ids.npy"), ITEMS)
  path.with_name("ids.txt").write_text("\n".join(ITEMS))


def read_feature(path):
  ids = path.with_name("ids.npy") if path.name == "f.npy" else path
  content.read_feature(path.with_name("f.npy"), ids, "item", ITEMS)


def read_users(path):
  given = Namespace(users=None, users_file=path)
  list(recommend.ids_of(given, "users") or ())


def write_picture(path):
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (6, 8, 3), np.uint8)
  Image.fromarray(pixels).save(path)


def read_picture(path):
  page._thumbnail.__wrapped__(str(path))
  open_picture(path)


read_table = lambda path: tables.read(path, ["user", "item"])
mmgcn = write_mmgcn, lambda path: published.read_mmgcn(path.parent, "a")
feature = write_feature, read_feature
picture = write_picture, read_picture
KINDS = {
  "2.pkl": (write_matrix, read_matrix, 600),
  "5.pkl": (write_matrix, read_matrix, 600),
  "train.npy": (*mmgcn, 300),
  "user_item_dict.npy": (*mmgcn, 600),
  "tiktok_t_64.npy": (*mmgcn, 300),
  "train.json": (
    write_mmssl, lambda path: published.read_mmssl(path.parent, "a"), 600
  ),
  "mmrec.inter": (
    write_mmrec, lambda path: published.read_mmrec(path.parent, "a"), 400
  ),
  "recbole.inter": (
    write_recbole,
    lambda path: read_interactions(path, "user_id", "item_id", "timestamp"),
    400,
  ),
  "clicks.csv": (FRAME.write_csv, read_table, 400),
  "clicks.tsv": (
    lambda path: FRAME.write_csv(path, separator="\t"), read_table, 400
  ),
  "clicks.jsonl": (FRAME.write_ndjson, read_table, 400),
  "clicks.parquet": (FRAME.write_parquet, read_table, 400),
  "clicks.csv.gz": (
    lambda path: path.write_bytes(gzip.compress(FRAME.write_csv().encode())),
    read_table,
    400,
  ),
  "feature.parquet": (
    FRAME.rename({"x": "f0"}).drop("user").write_parquet,
    lambda path: content.read_feature(path, None, "item", ITEMS),
    400,
  ),
  "f.npy": (*feature, 400),
  "ids.npy": (*feature, 400),
  "ids.txt": (*feature, 400),
  "a.npy": (lambda path: np.save(path, np.eye(6)), read_array, 400),
  "users.txt": (lambda path: path.write_text("u\nv\n"), read_users, 400),
  **{f"a.{ending}": (*picture, 300) for ending in
     ("png", "jpg", "gif", "webp", "bmp", "tif")},
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_file_from_elsewhere(name, tmp_path, fuzz):
  write, read, times = KINDS[name]
  write(tmp_path / name)
  fuzz(tmp_path / name, read, times, lines=30 if name[:6] == "clicks" else 1)


def test_a_tensor(tmp_path, fuzz):
  """Without PyTorch, any is refused."""
  path = tmp_path / "feat_v.pt"
  if importlib.util.find_spec("torch") is None:
    path.write_bytes(b"anything")
    with pytest.raises(UserError, match="feat_v.pt: reading a .pt needs"):
      published._read_feature(path)
    return
  import torch  # type: ignore

  torch.save(torch.eye(3), path)
  fuzz(path, published._read_feature, 300)
