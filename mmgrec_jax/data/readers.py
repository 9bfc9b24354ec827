"""Readers of published formats. Each ends in plain columns of NumPy arrays."""

import csv
from pathlib import Path

import numpy as np

from mmgrec_jax.errors import UserError


def read_atomic(path: str | Path) -> dict[str, list]:
  """Reads one RecBole atomic file (`.inter`, `.item`, …), tab-separated.

  The header names each field and its type, `user_id:token`. Types: `token`
  (kept as text), `float`, and their `_seq` forms (kept as text).

  Returns:
    field -> column, in the file's order.

  Raises:
    UserError: the file is missing, a header field has no known type, or a row
      has another number of fields or no number where one is declared.
  """
  path = Path(path)
  if not path.is_file():
    raise UserError(f"{path}: not found.")
  kinds = {"token": str, "token_seq": str, "float": float, "float_seq": str}
  with path.open(encoding="utf-8", newline="") as file:
    rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    header = [name.partition(":") for name in next(rows, [])]
    for name, _, kind in header:
      if kind not in kinds:
        raise UserError(
          f"{path}: header field {name!r} has type {kind!r}; give each field"
          f" one of {sorted(kinds)}, as in 'user_id:token'."
        )
    if not header:
      raise UserError(f"{path}: empty; the first line names the fields.")
    columns: dict[str, list] = {name: [] for name, _, _ in header}
    for line, row in enumerate(rows, start=2):
      if len(row) != len(header):
        raise UserError(
          f"{path}: line {line} has {len(row)} fields, the header"
          f" {len(header)}; fields are separated by tabs."
        )
      for (name, _, kind), text in zip(header, row, strict=True):
        try:
          columns[name].append(kinds[kind](text))
        except ValueError as error:
          raise UserError(
            f"{path}: line {line}, field {name!r}: {text!r} is no number."
          ) from error
  return columns


def merge_duplicates(
  user_E: np.ndarray, item_E: np.ndarray
) -> tuple[np.ndarray, int]:
  """Keeps the first row of each (user, item).

  Returns:
    rows to keep, ascending, and how many were merged away.
  """
  pairs = np.stack([user_E, item_E], axis=1)
  _, first = np.unique(pairs, axis=0, return_index=True)
  return np.sort(first), len(user_E) - len(first)
