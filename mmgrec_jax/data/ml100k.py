"""Makes the MovieLens-100K data set folder of the demo.

    python -m mmgrec_jax.data.ml100k --out=data/ml100k

The ratings and the movie table ship inside the wheel of `recbole` 1.2.1 (2 MB),
which pip downloads and this checks by SHA-256. Every rating is an interaction.
MovieLens is free for research: Harper and Konstan, 2015.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from absl import app, flags

from mmgrec_jax.data import features, tables
from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.data.folder import save_dataset
from mmgrec_jax.data.interactions import merge_duplicates
from mmgrec_jax.data.split import split_interactions
from mmgrec_jax.errors import UserError
from mmgrec_jax.files import check_free

PACKAGE = "recbole==1.2.1"
SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
FOLDER = "recbole/dataset_example/ml-100k/"

_OUT = flags.DEFINE_string("out", "data/ml100k", "folder to write")


def download(folder: Path) -> Path:
  """Fetches the wheel with pip and checks it. Returns its path."""
  command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
  done = subprocess.run([*command, "--dest", str(folder), PACKAGE])
  wheels = list(folder.glob("*.whl"))
  if done.returncode or len(wheels) != 1:
    raise UserError(
      f"pip could not download {PACKAGE}, which carries MovieLens-100K; check"
      " the network or the package index and run the command again."
    )
  found = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
  if found != SHA256:
    raise UserError(
      f"{wheels[0].name}: SHA-256 is {found}, expected {SHA256}; the package"
      " index served something else."
    )
  return wheels[0]


def read_movielens(folder: Path) -> Dataset:
  """Reads ml-100k.inter and ml-100k.item; split 80/10/10 with seed 0."""
  source = folder / "ml-100k.inter"
  ratings = tables.read(source, ["user_id", "item_id", "timestamp"])
  movies = tables.read(
    folder / "ml-100k.item",
    ["item_id", "movie_title", "release_year", "class"],
  )
  # Numeric ids sort as numbers, so that row order follows the source's.
  item_ids = np.array(sorted(movies["item_id"], key=int))
  row_of = {movie: row for row, movie in enumerate(movies["item_id"])}
  order = [row_of[movie] for movie in item_ids]
  user_ids = np.array(sorted(set(ratings["user_id"]), key=int))
  user_row = {user: row for row, user in enumerate(user_ids)}
  item_row = {item: row for row, item in enumerate(item_ids)}
  user_E = np.array([user_row[u] for u in ratings["user_id"]], np.int32)
  item_E = np.array([item_row[i] for i in ratings["item_id"]], np.int32)
  keep, merged = merge_duplicates(user_E, item_E)
  print(f"MovieLens-100K: {len(keep)} interactions, {merged} duplicates merged")
  titles = [movies["movie_title"][row] for row in order]
  years = [movies["release_year"][row] for row in order]
  return Dataset(
    name="ml100k",
    user_E=user_E[keep],
    item_E=item_E[keep],
    split_E=split_interactions(user_E[keep], seed=0),
    features={
      "text": features.text_features(titles, dim=128),
      "genres": features.multi_hot([movies["class"][row] for row in order]),
    },
    user_ids=user_ids,
    item_ids=item_ids,
    timestamp_E=tables.numbers(source, ratings["timestamp"])[keep],
    titles=np.array(
      [f"{t} ({y})" if y else t for t, y in zip(titles, years, strict=True)]
    ),
  )


def main(_) -> None:
  try:
    prepare(Path(_OUT.value))
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def prepare(out: Path) -> None:
  """Downloads the data and writes it to a folder, unless it is there.

  Raises:
    UserError: it cannot be downloaded, or the folder holds something else.
  """
  if (out / "meta.json").is_file():
    print(f"{out} is there already")
    return
  check_free(out)
  with tempfile.TemporaryDirectory() as scratch:
    wheel = download(Path(scratch))
    with zipfile.ZipFile(wheel) as archive:
      for name in ("ml-100k.inter", "ml-100k.item"):
        archive.extract(FOLDER + name, scratch)
    save_dataset(read_movielens(Path(scratch) / FOLDER), out)
  print(f"wrote {out}")


if __name__ == "__main__":
  app.run(main)
