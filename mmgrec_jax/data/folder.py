"""The folder form of a data set, written whole and checked when it is read."""

import json
from pathlib import Path

import numpy as np

from mmgrec_jax.arrays import read_array, read_npz
from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.errors import UserError
from mmgrec_jax.files import changed_file, read_json, sha256, write_folder

MOST = {"user": 2**31 - 2, "item": 2**31 - 2, "split": 2}
# Most rows for each interaction, beyond SMALL rows, that are taken for real.
SPARSEST, SMALL = 20, 1_000_000
OPTIONAL = ("user_ids", "item_ids", "titles", "pictures")


def save_dataset(data: Dataset, folder: str | Path) -> None:
  """Writes the folder form: interactions.npz, feat_*.npy, ids, meta.json.

  The folder appears when it is whole.

  Raises:
    UserError: something is there already, or it cannot be written.
  """
  columns = {"user": data.user_E, "item": data.item_E, "split": data.split_E}
  if data.timestamp_E is not None:
    columns["timestamp"] = data.timestamp_E
  with write_folder(Path(folder)) as scratch:
    np.savez(scratch / "interactions.npz", allow_pickle=False, **columns)
    for modality, feature in data.features.items():
      np.save(scratch / f"feat_{modality}.npy", feature)
    np.save(scratch / "user_ids.npy", data.user_ids)
    np.save(scratch / "item_ids.npy", data.item_ids)
    for name in ("titles", "pictures"):
      if getattr(data, name) is not None:
        np.save(scratch / f"{name}.npy", getattr(data, name))
    digests = {file.name: sha256(file) for file in sorted(scratch.iterdir())}
    meta = json.dumps({**data.statistics(), "sha256": digests}, indent=1)
    (scratch / "meta.json").write_text(meta, encoding="utf-8")


def _load_columns(path: Path) -> dict[str, np.ndarray]:
  columns = read_npz(path, "copy it again")
  missing = {"user", "item", "split"} - set(columns)
  if missing:
    raise UserError(
      f"{path}: column {sorted(missing)[0]!r} is missing; the file must hold"
      " user, item and split."
    )
  return columns


def _read_name(folder: Path, files: list[Path]) -> str:
  """What meta.json calls the data set, else the folder's name.

  Where it has SHA-256s, each of the files must have one, and all must agree.
  """
  path = folder / "meta.json"
  if not path.is_file():
    return folder.name
  form = {"name": (str,), "sha256": ({str: str},)}
  meta = read_json(path, "copy it again, or delete it", form)
  name, digests = meta.get("name") or folder.name, meta.get("sha256")
  if digests is None:
    return name
  changed = changed_file(folder, digests, [file.name for file in files])
  if changed:
    raise UserError(
      f"{changed}: missing, damaged, added or changed since the data set was"
      f" written; copy it again or, if it is meant so, delete {path}."
    )
  return name


def load_dataset(folder: str | Path) -> Dataset:
  """Reads the folder form. Ids default to row numbers, titles and
  pictures to none.

  Of a folder with SHA-256s in meta.json, as `save_dataset` writes it, no other
  file is read.

  Raises:
    UserError: naming the file, row and field that is wrong.
  """
  folder = Path(folder)
  path = folder / "interactions.npz"
  if not path.is_file():
    raise UserError(
      f"{path}: not found; a data set folder holds interactions.npz and"
      " feat_<modality>.npy."
    )
  modalities = sorted(folder.glob("feat_*.npy"))
  others = {name: folder / f"{name}.npy" for name in OPTIONAL}
  others = {name: file for name, file in others.items() if file.is_file()}
  name = _read_name(folder, [path, *modalities, *others.values()])
  columns = _load_columns(path)
  features = {}
  for file in modalities:
    array = read_array(file)
    if array.ndim != 2 or array.dtype.kind not in "iuf":
      raise UserError(
        f"{file}: {array.dtype} of shape {array.shape}; features are numbers,"
        " items x columns."
      )
    features[file.stem.removeprefix("feat_")] = array.astype(
      np.float32, copy=False
    )

  array_of = {name: read_array(file) for name, file in others.items()}
  user_E, item_E, split_E = (
    _index(columns[field], path, field) for field in ("user", "item", "split")
  )
  n_rows = max((len(f) for f in features.values()), default=0)
  if "user_ids" not in array_of:
    array_of["user_ids"] = _numbered(user_E, 0, path, "user")
  if "item_ids" not in array_of:
    array_of["item_ids"] = _numbered(item_E, n_rows, path, "item")
  return Dataset(
    name=name,
    user_E=user_E,
    item_E=item_E,
    split_E=split_E.astype(np.int8),
    features=features,
    timestamp_E=columns.get("timestamp"),
    **array_of,
  )


def _index(array: np.ndarray, path: Path, field: str) -> np.ndarray:
  if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
    raise UserError(
      f"{path}: '{field}' is {array.dtype} of shape {array.shape}; it must be"
      " one row of integers."
    )
  bad = np.flatnonzero((array < 0) | (array > MOST[field]))
  if len(bad):
    raise UserError(
      f"{path}: '{field}' of row {bad[0]} is {array[bad[0]]}, outside"
      f" 0..{MOST[field]}."
    )
  return array.astype(np.int32)


def _numbered(row_E: np.ndarray, at_least: int, path, field) -> np.ndarray:
  """The numbers of rows as their ids, where no file has others."""
  n = max(int(row_E.max(initial=-1)) + 1, at_least)
  if n > max(SPARSEST * len(row_E), SMALL, at_least):
    raise UserError(
      f"{path}: '{field}' goes up to {n - 1:,} in {len(row_E):,} interactions:"
      " these are ids, not row numbers. 'python -m mmgrec_jax.prepare' numbers"
      " them; if they are row numbers, save all"
      f" {n:,} ids as {path.with_name(f'{field}_ids.npy')}."
    )
  return np.arange(n)
