"""The folder form of a data set, written whole and checked when it is read."""

import json
from pathlib import Path

import numpy as np

from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.errors import UserError
from mmgrec_jax.files import (
  changed_file,
  read_array,
  read_json,
  sha256,
  write_folder,
)


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
  try:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
      columns = {name: archive[name] for name in archive}
  except Exception as error:  # zip, zlib and NumPy each raise their own kind
    raise UserError(f"{path}: damaged ({error}); copy it again.") from error
  missing = {"user", "item", "split"} - set(columns)
  if missing:
    raise UserError(
      f"{path}: column {sorted(missing)[0]!r} is missing; the file must hold"
      " user, item and split."
    )
  return columns


def _read_meta(folder: Path) -> dict:
  """meta.json, if there is one; the files it has a SHA-256 of are checked."""
  path = folder / "meta.json"
  if not path.is_file():
    return {}
  meta = read_json(path, "copy it again, or delete it")
  digests = meta.get("sha256", {})
  if not isinstance(digests, dict):
    raise UserError(f"{path}: damaged (sha256); copy it again, or delete it.")
  changed = changed_file(folder, digests)
  if changed:
    raise UserError(
      f"{changed}: missing, damaged or changed since the data set was written;"
      f" copy it again or, if it is meant so, delete {path}."
    )
  return meta


def load_dataset(folder: str | Path) -> Dataset:
  """Reads the folder form. Ids default to row numbers, titles and
  pictures to none.

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
  meta = _read_meta(folder)
  columns = _load_columns(path)
  features = {}
  for file in sorted(folder.glob("feat_*.npy")):
    array = read_array(file)
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.number):
      raise UserError(
        f"{file}: {array.dtype} of shape {array.shape}; features are numbers,"
        " items x columns."
      )
    features[file.stem.removeprefix("feat_")] = array.astype(np.float32)

  def optional(name: str) -> np.ndarray | None:
    file = folder / f"{name}.npy"
    return read_array(file) if file.is_file() else None

  def ids(name: str, column: np.ndarray, at_least: int) -> np.ndarray:
    found = optional(name)
    if found is not None:
      return found
    return np.arange(max(int(column.max(initial=-1)) + 1, at_least))

  n_rows = max((len(f) for f in features.values()), default=0)
  return Dataset(
    name=meta.get("name", folder.name),
    user_E=_index(columns["user"], path, "user"),
    item_E=_index(columns["item"], path, "item"),
    split_E=_index(columns["split"], path, "split").astype(np.int8),
    features=features,
    user_ids=ids("user_ids", columns["user"], 0),
    item_ids=ids("item_ids", columns["item"], n_rows),
    timestamp_E=columns.get("timestamp"),
    titles=optional("titles"),
    pictures=optional("pictures"),
  )


def _index(array: np.ndarray, path: Path, field: str) -> np.ndarray:
  if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
    raise UserError(
      f"{path}: '{field}' is {array.dtype} of shape {array.shape}; it must be"
      " one row of integers."
    )
  return array.astype(np.int32)
