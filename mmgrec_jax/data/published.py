"""Data sets in the forms in which others publish them, their split kept.

mmrec   X.inter with userID, itemID and x_label; image_feat.npy, …
mmgcn   train.npy, val_full.npy, test_full.npy (MMGCN, GRCN) or train.npy,
        val.npy, test.npy (LightGT); features as .npy or PyTorch's .pt
mmssl   trnMat.pkl, valMat.pkl, tstMat.pkl (DiffMM) or train_mat, …
        or train.json, … (MMSSL); image_feat.npy, …
recbole X.inter and X.item, where prepare.py splits
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmgrec_jax.arrays import read_array
from mmgrec_jax.data import headers, tables
from mmgrec_jax.data.dataset import TEST, TRAIN, VALID, Dataset
from mmgrec_jax.data.features import bag_of_words
from mmgrec_jax.data.interactions import merge_duplicates
from mmgrec_jax.data.safe_pickle import edges, load_objects, load_pickle
from mmgrec_jax.errors import UserError, first_line

# The first of the names that is there; by split.
LISTS = {
  TRAIN: ["train.npy"],
  VALID: ["val_full.npy", "val.npy"],
  TEST: ["test_full.npy", "test.npy"],
}
MATRICES = {
  TRAIN: ["trnMat.pkl", "train_mat", "train_mat.pkl", "train.json"],
  VALID: ["valMat.pkl", "val_mat", "val_mat.pkl", "val.json"],
  TEST: ["tstMat.pkl", "test_mat", "test_mat.pkl", "test.json"],
}
# Files of features, as their authors call them.
FEATURES = {
  "visual": [
    "image_feat.npy", "feat_v.pt", "v_feat.pt", "v_feat.npy",
    "visual_feat_new.pt", "FeatureVideo_normal.npy",
  ],
  "acoustic": [
    "audio_feat.npy", "feat_a.pt", "a_feat.pt", "a_feat.npy",
    "audio_feat_new.pt", "FeatureAudio_avg_normal.npy",
  ],
  "text": [
    "text_feat.npy", "feat_t.pt", "t_feat.pt", "t_feat.npy", "tiktok_t_64.npy",
    "kwai_t_64.npy", "FeatureText_stl_normal.npy",
  ],
}  # fmt: skip
TEXT_WIDTH = 128  # of a bag of words; the paper's width


def recognise(folder: Path) -> str:
  """Which form the folder is in.

  Raises:
    UserError: in none of them.
  """
  if any((folder / name).is_file() for name in MATRICES[TRAIN]):
    return "mmssl"
  if (folder / "train.npy").is_file():
    return "mmgcn"
  for table in sorted(folder.glob("*.inter")):
    return "mmrec" if "x_label" in headers.column_names(table) else "recbole"
  raise UserError(
    f"{folder}: in no form that is known: it has no X.inter (RecBole, MMRec),"
    " train.npy (MMGCN, GRCN, LightGT), trnMat.pkl (DiffMM) or train_mat"
    " (MMSSL)."
  )


def only_file(folder: Path, pattern: str) -> Path:
  """The one file with such a name. Raises UserError where there is not one."""
  found = sorted(folder.glob(pattern))
  if len(found) != 1:
    raise UserError(
      f"{folder}: {len(found)} files are called {pattern}, one is needed."
    )
  return found[0]


def read_mmrec(folder: Path, name: str) -> Dataset:
  """One table with the split in a column; features in the order of itemID."""
  path = only_file(folder, "*.inter")
  timed = "timestamp" in headers.column_names(path)
  columns = ["userID", "itemID", "x_label", *(["timestamp"] if timed else [])]
  frame = tables.read(path, columns)
  user_E, item_E, split_E, *rest = (
    tables.numbers(path, frame[column]) for column in columns
  )
  time_E = rest[0] if rest else None
  return _dataset(
    name, path, user_E, item_E, split_E, _features(folder), time_E
  )


def read_mmgcn(folder: Path, name: str) -> Dataset:
  """Pairs to train with, lists 'user, item, item, …' to evaluate.

  Item ids go on from the user ids in MMGCN and GRCN, and begin at 0 in LightGT.
  """
  parts, path = [], folder
  for split, names in LISTS.items():
    path = _first_file(folder, names)
    parts.append((_list_edges(path), split))
  user_E, item_E, split_E = _join(parts)
  if len(user_E) and item_E.min() > user_E.max():
    item_E = item_E - _count_users(folder, user_E, item_E)
  features = _features(folder)
  return _dataset(name, folder, user_E, item_E, split_E, features)


def read_mmssl(folder: Path, name: str) -> Dataset:
  """A pickled SciPy matrix of users x items a split, or a JSON of lists."""
  parts = []
  for split, names in MATRICES.items():
    path = _first_file(folder, names)
    load = _json_edges if path.suffix == ".json" else _matrix_edges
    parts.append((load(path), split))
  return _dataset(name, folder, *_join(parts), _features(folder))


READERS = {"mmrec": read_mmrec, "mmgcn": read_mmgcn, "mmssl": read_mmssl}
FORMS = ("recbole", *READERS)


def _first_file(folder: Path, names: Sequence[str]) -> Path:
  for name in names:
    if (folder / name).is_file():
      return folder / name
  raise UserError(f"{folder}: has no {' or '.join(names)}; add it.")


def _join(parts: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  user_E = np.concatenate([user for (user, _), _ in parts])
  item_E = np.concatenate([item for (_, item), _ in parts])
  splits = [np.full(len(user), split) for (user, _), split in parts]
  return user_E, item_E, np.concatenate(splits)


def _matrix_edges(path: Path) -> tuple[np.ndarray, np.ndarray]:
  return edges(path, load_pickle(path))


def _json_edges(path: Path) -> tuple[np.ndarray, np.ndarray]:
  try:
    items_of = json.loads(path.read_text(encoding="utf-8"))
    pairs = [(int(u), int(i)) for u, row in items_of.items() for i in row]
    return _columns(pairs)
  except (
    ValueError, TypeError, AttributeError, OSError, OverflowError,
    RecursionError,
  ) as error:  # fmt: skip
    raise UserError(
      f'{path}: not of the form {{"user": [item, …], …}} ({error}); get it from'
      " its source again."
    ) from error


def _list_edges(path: Path) -> tuple[np.ndarray, np.ndarray]:
  """Rows 'user, item, …'; a row of two is a pair."""
  rows = load_objects(path)
  try:
    return _columns([(row[0], item) for row in rows for item in row[1:]])
  except (ValueError, TypeError, IndexError, OverflowError) as error:
    raise UserError(
      f"{path}: a row is not 'user, item, …' in whole numbers ({error}); get it"
      " from its source again."
    ) from error


def _columns(pairs: list) -> tuple[np.ndarray, np.ndarray]:
  user_E, item_E = np.array(pairs, np.int64).reshape(-1, 2).T
  return user_E, item_E


def _count_users(folder: Path, user_E: np.ndarray, item_E: np.ndarray) -> int:
  """How many users there are, those without an interaction included."""
  count = int(user_E.max()) + 1
  path = folder / "user_item_dict.npy"
  if path.is_file():
    known = load_objects(path)
    if not isinstance(known, dict) or not all(
      isinstance(user, int | np.integer) for user in known
    ):
      raise UserError(
        f"{path}: holds a {type(known).__name__}, not each user's items; get it"
        " from its source again."
      )
    count = max(count, max(map(int, known), default=-1) + 1)
  return min(count, int(item_E.min()))


def _features(folder: Path) -> dict[str, np.ndarray]:
  """Those that are there, by modality; others' *_feat.npy by their name."""
  files = {
    path.name.removesuffix("_feat.npy"): path
    for path in sorted(folder.glob("*_feat.npy"))
  }
  for modality, names in FEATURES.items():
    for name in names:
      if (folder / name).is_file():
        files.pop(name.removesuffix("_feat.npy"), None)
        files.setdefault(modality, folder / name)
  arrays = {modality: _read_feature(path) for modality, path in files.items()}
  text = arrays.get("text")
  if text is not None and len(text) == 2 and text.dtype.kind in "iu":
    # TikTok's: item numbers, and below each the number of a word in it.
    item_N, word_N = text
    n_items = max(len(item_N), *map(len, arrays.values()))
    low, high = int(item_N.min(initial=0)), int(item_N.max(initial=-1))
    n_words = len(np.unique(word_N))
    if low < 0 or high >= n_items or n_words < 2:
      raise UserError(
        f"{files['text']}: its item numbers go from {low} to {high}, and it has"
        f" {n_words} words; they must be of at most {n_items} items, and of two"
        " words at least: get it from its source again."
      )
    n_items = max(high + 1, *map(len, arrays.values()))
    arrays["text"] = bag_of_words(item_N, word_N, n_items, TEXT_WIDTH)
  return {m: array.astype(np.float32) for m, array in arrays.items()}


def _read_feature(path: Path) -> np.ndarray:
  array = _read_tensor(path) if path.suffix == ".pt" else read_array(path)
  if array.ndim != 2 or array.dtype.kind not in "iuf":
    raise UserError(
      f"{path}: {array.dtype} of shape {array.shape}; a feature is a table of"
      " numbers, items x columns."
    )
  return array


def _read_tensor(path: Path) -> np.ndarray:
  try:
    import torch  # type: ignore
  except ImportError as error:
    raise UserError(
      f"{path}: reading a .pt needs PyTorch; pip install torch, or save the"
      " tensor as .npy."
    ) from error
  try:
    return torch.load(path, map_location="cpu", weights_only=True).numpy()
  except Exception as error:
    raise UserError(
      f"{path}: refused: holds more than one tensor, or is damaged"
      f" ({first_line(error)}); save the tensor as .npy."
    ) from error


def _dataset(
  name: str,
  path: Path,
  user_E: np.ndarray,
  item_E: np.ndarray,
  split_E: np.ndarray,
  features: dict[str, np.ndarray],
  time_E: np.ndarray | None = None,
) -> Dataset:
  """Items are rows of the features; who has no interaction is left out."""
  if not len(user_E):
    raise UserError(f"{path}: holds no interaction; get it from its source.")
  columns = {"user": user_E, "item": item_E, "split": split_E}
  for field, array in columns.items():
    whole = array.dtype.kind in "iu"
    if not whole or array.min() < 0 or array.max() >= 2**31:
      raise UserError(
        f"{path}: the {field} numbers go from {array.min()} to {array.max()};"
        " they must be whole, from 0 to 2147483647."
      )
  rows = {modality: len(feature) for modality, feature in features.items()}
  n_items = max(int(item_E.max()) + 1, *rows.values(), 0)
  for modality, n in rows.items():
    if n != n_items:
      raise UserError(
        f"{path}: the {modality} feature has {n} rows, but there are {n_items}"
        " items; the files do not belong together."
      )
  keep, merged = merge_duplicates(user_E, item_E)
  user_ids, user_row_E = np.unique(user_E[keep], return_inverse=True)
  item_ids, item_row_E = np.unique(item_E[keep], return_inverse=True)
  if features:
    item_ids, item_row_E = np.arange(n_items), item_E[keep]
  print(
    f"{path}: {len(user_E):,} interactions, {merged:,} duplicates merged,"
    " split as stored"
  )
  return Dataset(
    name=name,
    user_E=user_row_E.astype(np.int32),
    item_E=item_row_E.astype(np.int32),
    split_E=split_E[keep].astype(np.int8),
    features=features,
    user_ids=user_ids.astype(str),
    item_ids=item_ids.astype(str),
    timestamp_E=None if time_E is None else time_E[keep],
  )
