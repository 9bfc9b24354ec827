"""Rec-IDs: semantic tokens plus one that makes them unique (eq. 11-12)."""

import dataclasses
from pathlib import Path

import numpy as np

from mmgrec_jax.errors import UserError


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
    bad = np.argwhere((tokens < 0) | (tokens >= np.array(self.vocabulary)))
    if len(bad):
      item, level = bad[0]
      raise UserError(
        f"Rec-ID of item row {item} has token {tokens[item, level]} at level"
        f" {level + 1}, outside 0..{self.vocabulary[level] - 1}."
      )
    ids, count = np.unique(tokens, axis=0, return_counts=True)
    if len(ids) != len(tokens):
      shared = ids[count > 1][0]
      items = np.flatnonzero((tokens == shared).all(axis=1))[:2]
      raise UserError(
        f"Rec-ID {tuple(map(int, shared))} belongs to item rows {items[0]} and"
        f" {items[1]}; assign the Rec-IDs again."
      )

  @property
  def lexicographic_order(self) -> np.ndarray:
    """Item rows sorted by Rec-ID, int32 [I]."""
    return np.lexsort(self.tokens_IxM.T[::-1]).astype(np.int32)


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
  keys = (np.arange(len(rank_by)), rank_by, *semantic_IxS.T[::-1])
  order = np.lexsort(keys)
  ordered = semantic_IxS[order]
  new_group = np.ones(len(order), bool)
  new_group[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
  start = np.flatnonzero(new_group)[np.cumsum(new_group) - 1]
  rank = np.empty(len(order), np.int64)
  rank[order] = np.arange(len(order)) - start
  tokens = np.column_stack([semantic_IxS, rank]).astype(np.int32)
  sizes = (codebook_size,) * semantic_IxS.shape[1] + (int(rank.max()) + 1,)
  return RecIds(tokens, sizes)


def save_rec_ids(rec_ids: RecIds, path: str | Path) -> None:
  """Writes tokens, vocabulary sizes and the lexicographic order (.npz)."""
  np.savez(
    path,
    tokens=rec_ids.tokens_IxM,
    vocabulary=np.array(rec_ids.vocabulary),
    order=rec_ids.lexicographic_order,
  )


def load_rec_ids(path: str | Path) -> RecIds:
  """Reads what `save_rec_ids` wrote and checks the bijection again.

  Raises:
    UserError: the file is damaged or two items share a Rec-ID.
  """
  try:
    with (
      Path(path).open("rb") as file,
      np.load(file, allow_pickle=False) as archive,
    ):
      tokens, sizes = archive["tokens"], archive["vocabulary"]
      order = archive["order"]
  except Exception as error:  # zip, zlib and NumPy each raise their own kind
    raise UserError(
      f"{path}: damaged ({error}); delete it to assign the Rec-IDs again."
    ) from error
  try:
    rec_ids = RecIds(tokens.astype(np.int32), tuple(int(v) for v in sizes))
  except UserError as error:
    raise UserError(f"{path}: {error}") from error
  if not np.array_equal(order, rec_ids.lexicographic_order):
    raise UserError(
      f"{path}: 'order' is not the lexicographic order of 'tokens'; delete the"
      " file to assign the Rec-IDs again."
    )
  return rec_ids
