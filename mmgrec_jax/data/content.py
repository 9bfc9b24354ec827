"""What items are, from a person's own files, joined by item id.

Nothing is joined by row order. An item that a file does not have gets zeros,
which count as missing (`features.present_rows`).
"""

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from mmgrec_jax.arrays import read_array
from mmgrec_jax.data import features, headers, tables
from mmgrec_jax.errors import UserError, first_line


def match_rows(path: Path, ids: np.ndarray, item_ids: np.ndarray) -> np.ndarray:
  """Row of `ids` at which each item is found, -1 for none. int64 [I].

  Raises:
    UserError: an id occurs twice, or no item is found at all.
  """
  order = np.argsort(ids, kind="stable")
  ordered = ids[order]
  twice = np.flatnonzero(ordered[1:] == ordered[:-1])
  if len(twice):
    first, second = order[twice[0]] + 1, order[twice[0] + 1] + 1
    raise UserError(
      f"{path}: rows {first} and {second} are both of item"
      f" {str(ordered[twice[0]])!r}; keep one of them."
    )
  place_I = np.minimum(np.searchsorted(ordered, item_ids), len(ids) - 1)
  found_I = ordered[place_I] == item_ids
  if not found_I.any():
    raise UserError(
      f"{path}: none of its {len(ids)} ids, such as {str(ids[0])!r}, is an item"
      f" of the interactions, such as {str(item_ids[0])!r}; give both files"
      " the same ids."
    )
  return np.where(found_I, order[place_I], -1)


def read_item_ids(path: Path, item_column: str) -> np.ndarray:
  """The ids of a table of items, text [N]."""
  frame = tables.scan(path, {item_column: "--item_column"})
  frame = tables.collect(path, tables.with_ids(path, frame, item_column))
  return _ids(path, frame, item_column)


def read_texts(
  path: Path,
  item_column: str,
  columns: Sequence[str],
  item_ids: np.ndarray,
  flag: str = "--text",
) -> dict[str, list[str]]:
  """Columns that `flag` names as text, one entry an item, '' for none."""
  flags = {item_column: "--item_column", **dict.fromkeys(columns, flag)}
  frame = tables.with_ids(path, tables.scan(path, flags), item_column)
  frame = tables.collect(path, frame)
  row_I = match_rows(path, _ids(path, frame, item_column), item_ids)
  out = {}
  for name in columns:
    column = [*_texts(path, frame[name]), ""]
    out[name] = [column[row].strip() for row in row_I]
  return out


def _texts(path: Path, column: pl.Series) -> list[str]:
  """'' for null; lists and the like as JSON lines have them."""
  if column.dtype.is_nested():
    form = functools.partial(json.dumps, ensure_ascii=False, default=str)
    return ["" if cell is None else form(cell) for cell in column.to_list()]
  text = tables.as_text(path, column, "write that column as text")
  return text.fill_null("").to_list()


def filled_rows(path: Path, texts: Sequence[str]) -> list[int]:
  """Where there is text. Raises UserError where there is too little."""
  filled = [row for row, text in enumerate(texts) if text]
  if len(filled) < 2:
    raise UserError(
      f"{path}: only {len(filled)} of the {len(texts)} items have text in the"
      " columns of --text; at least two are needed."
    )
  return filled


def encode_texts(path: Path, texts: Sequence[str], width: int) -> np.ndarray:
  """`text_features` of the texts that are not empty. float32 [I, <= width]."""
  filled = filled_rows(path, texts)
  vectors = features.text_features([texts[row] for row in filled], width)
  out_IxD = np.zeros((len(texts), vectors.shape[1]), np.float32)
  out_IxD[filled] = vectors
  return out_IxD


def read_feature(
  path: Path, ids_path: Path | None, item_column: str, item_ids: np.ndarray
) -> np.ndarray:
  """A precomputed feature, joined by item id. float32 [I, D].

  Args:
    path: an .npy, or a table with an id column and numbers.
    ids_path: of an .npy: the item id of each row, .npy or one to a line.

  Raises:
    UserError: naming the file and the row or item that is wrong.
  """
  if path.suffix == ".npy":
    if ids_path is None:
      raise UserError(
        f"{path}: says nothing of which item a row is; give the ids of its"
        " rows with --feature_ids=NAME=FILE."
      )
    values, ids = read_array(path), _read_ids(ids_path)
  elif ids_path is not None:
    raise UserError(
      f"{path}: a table has its ids in {item_column!r} (--item_column); leave"
      " --feature_ids out."
    )
  else:
    values, ids = _read_feature_table(path, item_column)
  if values.ndim != 2 or values.dtype.kind not in "iuf":
    raise UserError(
      f"{path}: {values.dtype} of shape {values.shape}; a feature is a table of"
      " numbers, items x columns."
    )
  if len(values) != len(ids):
    raise UserError(
      f"{path}: {len(values)} rows, but {len(ids)} ids in {ids_path}; there"
      " must be an id for each row."
    )
  if not len(ids):
    raise UserError(f"{path}: no row; there must be one of some item at least.")
  _check_finite(path, values, ids)
  row_I = match_rows(path, ids, item_ids)
  out_IxD = np.zeros((len(item_ids), values.shape[1]), np.float32)
  out_IxD[row_I >= 0] = values[row_I[row_I >= 0]]
  unknown = len(ids) - int((row_I >= 0).sum())
  if unknown:
    print(f"{path}: {unknown:,} of {len(ids):,} rows are of no item here")
  return out_IxD


def _ids(path: Path, frame: pl.DataFrame, column: str) -> np.ndarray:
  if not len(frame):
    raise UserError(f"{path}: no row below the header; add the items.")
  tables.check_ids(path, frame[column])
  return np.array(frame[column].to_list())


def _read_ids(path: Path) -> np.ndarray:
  if path.suffix == ".npy":
    ids = read_array(path)
    if ids.ndim != 1 or ids.dtype.kind not in "iuU":
      raise UserError(
        f"{path}: {ids.dtype} of shape {ids.shape}; ids are one row of whole"
        " numbers or text."
      )
    return ids.astype(str)
  try:
    text = path.read_text(encoding="utf-8-sig")
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(
      f"{path}: cannot be read ({error}); give item ids, one to a line, in"
      " UTF-8."
    ) from error
  lines = text.removesuffix("\n").split("\n") if text else []
  return np.array(lines, str)


def _read_feature_table(
  path: Path, item_column: str
) -> tuple[np.ndarray, np.ndarray]:
  names = headers.column_names(path)
  if "" in names:
    raise UserError(
      f"{path}: column {names.index('') + 1} has no name, such as the row"
      " numbers of pandas (write it with index=False); name it or take it out."
    )
  flags = {item_column: "--item_column", **dict.fromkeys(names, "--features")}
  frame = tables.with_ids(path, tables.scan(path, flags), item_column)
  frame = tables.collect(path, frame)
  ids = _ids(path, frame, item_column)
  columns = frame.drop(item_column).get_columns()
  if not columns:
    raise UserError(f"{path}: no column beside the ids; add the numbers.")
  if len(columns) == 1:
    (column,) = columns
    if headers.kind(path) in headers.LINES:
      column = _parse_lists(path, column)
    if column.dtype.is_nested():
      return _stack_lists(path, column), ids
  parsed = [tables.numbers(path, column) for column in columns]
  return np.stack(parsed, axis=1).astype(np.float32), ids


def _parse_lists(path: Path, column: pl.Series) -> pl.Series:
  """Texts of JSON lists as lists; others as they are."""
  if not column.str.starts_with("[").any():
    return column
  try:
    return column.str.json_decode(pl.List(pl.Float32))
  except pl.exceptions.PolarsError as error:
    raise UserError(
      f"{path}: {column.name!r} does not hold a list of numbers in every row"
      f" ({first_line(error)}); mend the others."
    ) from error


def _stack_lists(path: Path, column: pl.Series) -> np.ndarray:
  of = getattr(column.dtype, "inner", None)  # none of a struct
  if of is None or not of.is_numeric():
    raise UserError(
      f"{path}: {column.name!r} holds {column.dtype}; a feature is numbers, or"
      " one list of numbers a row: write that column as one of them."
    )
  column = column.cast(pl.List(pl.Float32), strict=False)
  lengths = column.list.len().fill_null(0).to_numpy()
  other = np.flatnonzero(lengths != lengths[0])
  if len(other):
    raise UserError(
      f"{path}: row {other[0] + 1} has {lengths[other[0]]} numbers in"
      f" {column.name!r}, row 1 has {lengths[0]}; give all the same."
    )
  return column.explode().to_numpy().reshape(len(lengths), -1)


def _check_finite(path: Path, values: np.ndarray, ids: np.ndarray) -> None:
  bad = np.argwhere(~np.isfinite(values))
  if len(bad):
    row, column = bad[0]
    raise UserError(
      f"{path}: row {row + 1} (item {str(ids[row])!r}), number {column + 1} is"
      f" {values[row, column]}; replace such values ({len(bad)} of them), or"
      " leave those rows out."
    )
