"""Rec-IDs: semantic tokens plus one that makes them unique (eq. 11-12)."""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from mmgrec_jax.arrays import Form, read_arrays, write_arrays
from mmgrec_jax.errors import UserError

FORMS = {
  "tokens": Form(int, "IxM", below="MOST"),
  "vocabulary": Form(int, "M", below="MOST", least=1),
  "order": Form(int, "I"),
}


def _sort_keys(
  tokens_IxM: np.ndarray, sizes: tuple[int, ...]
) -> list[np.ndarray]:
  """The columns joined into as few int64 [I] as hold them, first one first.

  Sorting by these is several times faster than by the columns themselves.
  """
  keys, room = [], 0
  for column, size in zip(tokens_IxM.T, sizes, strict=True):
    if size > room:
      keys.append(np.zeros(len(tokens_IxM), np.int64))
      room = 2**63 - 1
    keys[-1] = keys[-1] * size + column
    room //= size
  return keys


def _first_of_group(keys: list[np.ndarray], order: np.ndarray) -> np.ndarray:
  """bool [I]: where, in that order, the keys differ from the ones before."""
  first = np.ones(len(order), bool)
  first[1:] = False
  for key in keys:
    ordered = key[order]
    first[1:] |= ordered[1:] != ordered[:-1]
  return first


@dataclasses.dataclass(frozen=True)
class RecIds:
  """One Rec-ID an item, all different.

  Attributes:
    tokens_IxM: int32; column m is below vocabulary[m].
    vocabulary: V_m of each level; all but the last are equal.
  """

  tokens_IxM: np.ndarray
  vocabulary: tuple[int, ...]

  def __post_init__(self):
    tokens = self.tokens_IxM
    if tokens.ndim != 2 or tokens.shape[1] != len(self.vocabulary):
      raise UserError(
        f"Rec-IDs have shape {tokens.shape}, the vocabulary"
        f" {len(self.vocabulary)} levels."
      )
    bad = (tokens < 0) | (tokens >= np.array(self.vocabulary))
    if bad.any():
      item, level = np.argwhere(bad)[0]
      raise UserError(
        f"Rec-ID of item row {item} has token {tokens[item, level]} at level"
        f" {level + 1}, outside 0..{self.vocabulary[level] - 1}."
      )
    order = self.lexicographic_order
    first = _first_of_group(_sort_keys(tokens, self.vocabulary), order)
    if not first.all():
      shared = tokens[order[np.flatnonzero(~first)[0]]]
      items = np.flatnonzero((tokens == shared).all(axis=1))[:2]
      raise UserError(
        f"Rec-ID {tuple(map(int, shared))} belongs to item rows {items[0]} and"
        f" {items[1]}; assign the Rec-IDs again."
      )

  @functools.cached_property
  def lexicographic_order(self) -> np.ndarray:
    """Item rows sorted by Rec-ID, int32 [I]."""
    keys = _sort_keys(self.tokens_IxM, self.vocabulary)
    return np.lexsort(keys[::-1]).astype(np.int32)


def assign_rec_ids(
  semantic_IxS: np.ndarray,
  codebook_size: int,
  popularity_I: np.ndarray,
  last_token: str = "popularity",
  seed: int = 0,
) -> RecIds:
  """Appends the token that tells items with equal semantic tokens apart.

  `popularity` (eq. 11): rank by training interactions, descending, ties by
  item row. `random` (eq. 2, TIGER): any order.
  """
  rank_by = {
    "popularity": -popularity_I.astype(np.int64),
    "random": np.random.default_rng(seed).permutation(len(popularity_I)),
  }[last_token]
  sizes = (codebook_size,) * semantic_IxS.shape[1]
  keys = _sort_keys(semantic_IxS, sizes)
  # lexsort is stable: ties stay in the order of item rows.
  order = np.lexsort((rank_by, *keys[::-1]))
  new_group = _first_of_group(keys, order)
  start = np.flatnonzero(new_group)[np.cumsum(new_group) - 1]
  rank = np.empty(len(order), np.int64)
  rank[order] = np.arange(len(order)) - start
  tokens = np.column_stack([semantic_IxS, rank]).astype(np.int32)
  return RecIds(tokens, (*sizes, int(rank.max()) + 1))


def save_rec_ids(rec_ids: RecIds, path: str | Path) -> None:
  """Writes tokens, vocabulary sizes and the lexicographic order (.npz).

  Atomically: a kill leaves the old file or the new one.
  """
  arrays = {
    "tokens": rec_ids.tokens_IxM,
    "vocabulary": np.array(rec_ids.vocabulary),
    "order": rec_ids.lexicographic_order,
  }
  write_arrays(Path(path), arrays)


def load_rec_ids(path: str | Path, n_items: int | None = None) -> RecIds:
  """Reads what `save_rec_ids` wrote and checks the bijection again.

  Args:
    n_items: of the catalogue, where that is known.

  Raises:
    UserError: the file is missing or damaged, is of other items, or two items
      share a Rec-ID.
  """
  mend = "delete it to assign the Rec-IDs again"
  known = {} if n_items is None else {"I": n_items}
  saved = read_arrays(Path(path), mend, FORMS, MOST=2**31, **known)
  tokens = saved["tokens"].astype(np.int32)
  try:
    rec_ids = RecIds(tokens, tuple(saved["vocabulary"].tolist()))
  except UserError as error:
    raise UserError(f"{path}: {error}") from error
  if not np.array_equal(saved["order"], rec_ids.lexicographic_order):
    raise UserError(
      f"{path}: 'order' is not the lexicographic order of 'tokens'; delete the"
      " file to assign the Rec-IDs again."
    )
  return rec_ids
