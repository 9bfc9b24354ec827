"""The data set: who interacted with what, in which split, and what items are.

Everything that reads files ends in a `Dataset`; nothing after it opens one.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mmgrec_jax.errors import UserError, first_line

TRAIN, VALID, TEST = 0, 1, 2
SPLITS = {"train": TRAIN, "valid": VALID, "test": TEST}
INTEGERS = {"user_E": np.int32, "item_E": np.int32, "split_E": np.int8}


class Rows(NamedTuple):
  """Interactions grouped by user (CSR): row u is items[offset[u]:offset[u+1]].

  offset: int32 [U + 1].  items: int32 [E].
  """

  offset: np.ndarray
  items: np.ndarray

  @property
  def lengths(self) -> np.ndarray:
    """Items a user has, int32 [U]."""
    return np.diff(self.offset)

  def of(self, user: int) -> np.ndarray:
    """Items of one user, int32 [n]."""
    return self.items[self.offset[user] : self.offset[user + 1]]


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Users, items and their interactions, checked on construction.

  Lists and other kinds of integers will do, too: they become these arrays.

  Attributes:
    name: what to call it in reports.
    user_E: int32, user row of each interaction.
    item_E: int32, item row of each interaction.
    split_E: int8, 0 train, 1 validation, 2 test.
    features: float32 [I, D_m] by modality; row = item.
    user_ids: the caller's ids, row u = user u.
    item_ids: the caller's ids, row i = item i.
    timestamp_E: int64 or None; only the order within a user matters.
    titles: str [I] or None, for people to read.
    pictures: str [I] or None, paths of pictures to look at; '' = none.

  Raises:
    UserError: an array has a wrong shape, an id is out of range, an
      interaction occurs twice, a user has none, or a feature is not finite.
  """

  name: str
  user_E: np.ndarray
  item_E: np.ndarray
  split_E: np.ndarray
  features: Mapping[str, np.ndarray]
  user_ids: np.ndarray
  item_ids: np.ndarray
  timestamp_E: np.ndarray | None = None
  titles: np.ndarray | None = None
  pictures: np.ndarray | None = None

  def __post_init__(self):
    _convert(self)
    _check_items(self)
    _check_columns(self)
    # Only now: out of range they would wrap, as unsigned ones do in -user_E.
    for field, dtype in INTEGERS.items():
      array = getattr(self, field).astype(dtype, copy=False)
      object.__setattr__(self, field, array)
    _check_edges(self)

  @property
  def n_users(self) -> int:
    return len(self.user_ids)

  @property
  def n_items(self) -> int:
    return len(self.item_ids)

  @property
  def names(self) -> np.ndarray:
    """Titles, or the ids where there are none, [I]."""
    return self.item_ids if self.titles is None else self.titles

  def edges(self, split: int | None) -> tuple[np.ndarray, np.ndarray]:
    """(user, item) of one split or, None, of all, each int32 [E_split]."""
    chosen = self._in(split)
    return self.user_E[chosen], self.item_E[chosen]

  def _in(self, split: int | None) -> np.ndarray:
    return (
      np.full(len(self.split_E), True)
      if split is None
      else (self.split_E == split)
    )

  def rows(self, split: int | None) -> Rows:
    """One split by user, items ascending."""
    user, item = self.edges(split)
    order = np.lexsort((item, user))
    return Rows(
      np.searchsorted(user[order], np.arange(self.n_users + 1)).astype("i4"),
      item[order].astype("i4"),
    )

  def rows_newest_first(self, split: int | None) -> Rows:
    """One split by user, last interaction first.

    Where timestamps are equal or missing, what is stored later counts as later.
    """
    user, item = self.edges(split)
    time = np.zeros(len(user))
    if self.timestamp_E is not None:
      time = self.timestamp_E[self._in(split)]
    order = np.lexsort((time, -user))[::-1]  # stable, then all turned round
    return Rows(
      np.searchsorted(user[order], np.arange(self.n_users + 1)).astype("i4"),
      item[order].astype("i4"),
    )

  def popularity(self) -> np.ndarray:
    """Training interactions of each item, int32 [I]."""
    _, item = self.edges(TRAIN)
    return np.bincount(item, minlength=self.n_items).astype("i4")

  @functools.cached_property
  def fingerprint(self) -> str:
    """SHA-256 of every array that can change a result (hex, 64 letters)."""
    digest = hashlib.sha256()
    arrays = [self.user_E, self.item_E, self.split_E]
    arrays += [self.features[m] for m in sorted(self.features)]
    if self.timestamp_E is not None:
      arrays.append(self.timestamp_E)
    digest.update(json.dumps(sorted(self.features)).encode())
    if not self.features and self.n_items > self.item_E.max() + 1:
      digest.update(str(self.n_items).encode())  # none of the arrays tells it
    for array in arrays:
      digest.update(str((array.shape, array.dtype.str)).encode())
      digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()

  def statistics(self) -> dict:
    """Counts for reports (the columns of the paper's Table 1, and more)."""
    counts = np.bincount(self.split_E, minlength=3)
    train_rows = self.rows(TRAIN).lengths
    return {
      "name": self.name,
      "users": self.n_users,
      "items": self.n_items,
      "interactions": len(self.user_E),
      "density": len(self.user_E) / (self.n_users * self.n_items),
      "train": int(counts[TRAIN]),
      "valid": int(counts[VALID]),
      "test": int(counts[TEST]),
      "longest_history": int(train_rows.max(initial=0)),
      "users_without_train": int((train_rows == 0).sum()),
      "items_without_train": int((self.popularity() == 0).sum()),
      "modalities": {m: int(f.shape[1]) for m, f in self.features.items()},
      "fingerprint": self.fingerprint,
    }


def _convert(data: Dataset) -> None:
  """Makes arrays of what is none."""
  fields = [*INTEGERS, "user_ids", "item_ids"]
  optional = ("timestamp_E", "titles", "pictures")
  fields += [name for name in optional if getattr(data, name) is not None]
  for field in fields:
    array = _as_array(data, field, getattr(data, field))
    object.__setattr__(data, field, array)
  features = {m: _as_array(data, m, f) for m, f in data.features.items()}
  object.__setattr__(data, "features", features)


def _as_array(data: Dataset, field: str, values: ArrayLike) -> np.ndarray:
  try:
    return np.asarray(values)
  except ValueError as error:  # rows of different lengths
    raise UserError(
      f"{data.name}: '{field}' is no array ({first_line(error)}); make all its"
      " rows equally long."
    ) from error


def _check_columns(data: Dataset) -> None:
  n = data.user_E.size
  if n == 0:
    raise UserError(f"{data.name}: there are no interactions.")
  bounds = {
    "user": (data.user_E, data.n_users, "user_ids"),
    "item": (data.item_E, data.n_items, "item_ids"),
    "split": (data.split_E, 3, "0 train, 1 validation, 2 test"),
  }
  for field, (array, _, _) in bounds.items():
    if array.shape != (n,) or not np.issubdtype(array.dtype, np.integer):
      raise UserError(
        f"{data.name}: '{field}' must hold {n} integers, one per interaction,"
        f" but is {array.dtype} of shape {array.shape}."
      )
  if data.timestamp_E is not None and data.timestamp_E.shape != (n,):
    raise UserError(
      f"{data.name}: 'timestamp' has shape {data.timestamp_E.shape}; it must"
      f" have one entry for each of the {n} interactions."
    )
  if data.timestamp_E is not None:
    numbers = np.issubdtype(data.timestamp_E.dtype, np.number)
    bad = np.flatnonzero(~np.isfinite(data.timestamp_E)) if numbers else [0]
    if len(bad):
      raise UserError(
        f"{data.name}: 'timestamp' of row {bad[0]} is"
        f" {data.timestamp_E[bad[0]]!r}; give every interaction a number, or"
        " leave the column out."
      )
  for field, (array, bound, source) in bounds.items():
    bad = np.flatnonzero((array < 0) | (array >= bound))
    if len(bad):
      raise UserError(
        f"{data.name}: '{field}' of row {bad[0]} is {array[bad[0]]}, outside"
        f" 0..{bound - 1} ({source})."
      )


def _check_edges(data: Dataset) -> None:
  pair = data.user_E.astype(np.int64) * data.n_items + data.item_E
  order = np.argsort(pair, kind="stable")
  twice = np.flatnonzero(np.diff(pair[order]) == 0)
  if len(twice):
    first, second = order[twice[0]], order[twice[0] + 1]
    raise UserError(
      f"{data.name}: rows {first} and {second} hold the same interaction (user"
      f" {data.user_E[first]}, item {data.item_E[first]}); keep the first of"
      " each pair."
    )
  empty = np.flatnonzero(np.bincount(data.user_E, minlength=data.n_users) == 0)
  if len(empty):
    user = str(data.user_ids[empty[0]])
    raise UserError(
      f"{data.name}: user {user!r} (row {empty[0]}) has no interaction; drop"
      f" such users ({len(empty)} of them)."
    )


def _check_items(data: Dataset) -> None:
  for field in ("user_ids", "item_ids"):
    ids = getattr(data, field)
    if ids.ndim != 1 or ids.dtype.kind not in "iuU":
      raise UserError(
        f"{data.name}: '{field}' is {ids.dtype} of shape {ids.shape}; it must"
        " be one row of whole numbers or text."
      )
    if len(np.unique(ids)) != len(ids):
      raise UserError(
        f"{data.name}: '{field}' has {len(ids)} ids, but only"
        f" {len(np.unique(ids))} distinct ones; name each once."
      )
  for field in ("titles", "pictures"):
    texts = getattr(data, field)
    if texts is not None and texts.shape != (data.n_items,):
      raise UserError(
        f"{data.name}: '{field}' has shape {texts.shape}; it must have one"
        f" entry for each of the {data.n_items} items."
      )
    if texts is not None and texts.dtype.hasobject:
      raise UserError(
        f"{data.name}: '{field}' is {texts.dtype}, which no folder can hold;"
        " give text only, '' for none."
      )
  for modality, feature in data.features.items():
    if feature.ndim != 2 or len(feature) != data.n_items or not feature.size:
      raise UserError(
        f"{data.name}: feature '{modality}' has shape {feature.shape}; it must"
        f" have one row for each of the {data.n_items} items."
      )
    if feature.dtype.kind not in "iuf":
      raise UserError(
        f"{data.name}: feature '{modality}' is {feature.dtype} of shape"
        f" {feature.shape}; features are numbers, items x columns."
      )
    bad = np.argwhere(~np.isfinite(feature))
    if len(bad):
      row, column = bad[0]
      raise UserError(
        f"{data.name}: feature '{modality}' is {feature[row, column]} at row"
        f" {row}, column {column}; replace such values ({len(bad)} of them),"
        " for example by 0."
      )
