"""Interactions of a table: read, merged, filtered, numbered.

Users and items are numbered in the order in which they first occur, so that
the same file gives the same data set on any machine.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from mmgrec_jax.data import tables
from mmgrec_jax.errors import UserError

LONGEST_ID = 256


class Interactions(NamedTuple):
  """user_E, item_E: int32 rows of user_ids [U] and item_ids [I], text.

  time_E, rating_E: numbers, or None.
  """

  user_E: np.ndarray
  item_E: np.ndarray
  user_ids: np.ndarray
  item_ids: np.ndarray
  time_E: np.ndarray | None = None
  rating_E: np.ndarray | None = None


def read_interactions(
  path: Path, user: str, item: str, time: str = "", rating: str = ""
) -> Interactions:
  """Reads the named columns; `time` and `rating` may be left out.

  Raises:
    UserError: naming the file, row and column that is wrong.
  """
  flags = {
    user: "--user_column",
    item: "--item_column",
    time: "--time_column",
    rating: "--rating_column",
  }
  flags.pop("", None)
  # As categories ids take 4 bytes a row, however long they are.
  frame = tables.with_ids(path, tables.scan(path, flags), user, item)
  codes = pl.col(user, item).cast(pl.Categorical)
  frame = tables.collect(path, frame.with_columns(codes))
  if not len(frame):
    raise UserError(f"{path}: no row below the header; nothing to learn from.")
  user_E, user_ids = _encode(path, frame[user])
  item_E, item_ids = _encode(path, frame[item])
  return Interactions(
    user_E,
    item_E,
    user_ids,
    item_ids,
    tables.numbers(path, frame[time], dates=True) if time else None,
    tables.numbers(path, frame[rating]) if rating else None,
  )


def _encode(path: Path, column: pl.Series) -> tuple[np.ndarray, np.ndarray]:
  """Rows, int32 [E], and the ids that they are rows of."""
  tables.check_ids(path, column)
  row_E, first = number(column.to_physical().to_numpy())
  ids = column.gather(first).cast(pl.String)
  length = ids.str.len_chars().to_numpy()
  if length.max() > LONGEST_ID:
    row = first[length.argmax()] + 1
    raise UserError(
      f"{path}: row {row}, {column.name!r} is {length.max():,} characters"
      f" long, an id has at most {LONGEST_ID}; is a quote left open there?"
    )
  return row_E, np.array(ids.to_list())


def number(code_E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Numbers 0, 1, … in the order in which the codes first occur.

  Returns:
    int32 [E], and the place where each number first occurs, ascending.
  """
  n = len(code_E)
  first = np.full(int(code_E.max(initial=0)) + 1, n)
  first[code_E[::-1]] = np.arange(n)[::-1]  # the last assignment stays
  places = np.sort(first[first < n])
  number_of = np.zeros(len(first), np.int32)
  number_of[code_E[places]] = np.arange(len(places))
  return number_of[code_E], places


def take(table: Interactions, rows: np.ndarray) -> Interactions:
  """Those rows only, numbered anew."""
  user_E, first_user = number(table.user_E[rows])
  item_E, first_item = number(table.item_E[rows])
  of = lambda column: None if column is None else column[rows]
  return Interactions(
    user_E,
    item_E,
    table.user_ids[table.user_E[rows[first_user]]],
    table.item_ids[table.item_E[rows[first_item]]],
    of(table.time_E),
    of(table.rating_E),
  )


def merge_duplicates(
  user_E: np.ndarray, item_E: np.ndarray
) -> tuple[np.ndarray, int]:
  """Keeps the first row of each (user, item).

  Returns:
    rows to keep, ascending, and how many were merged away.
  """
  pair_E = (user_E.astype(np.int64) << 32) | item_E.astype(np.int64)
  _, first = np.unique(pair_E, return_index=True)
  return np.sort(first), len(user_E) - len(first)


def k_core(user_E: np.ndarray, item_E: np.ndarray, k: int) -> np.ndarray:
  """The most rows in which each user and each item has at least k."""
  rows = np.arange(len(user_E))
  while True:
    user, item = user_E[rows], item_E[rows]
    enough = np.bincount(user)[user] >= k
    enough &= np.bincount(item)[item] >= k
    if enough.all():
      return rows
    rows = rows[enough]
