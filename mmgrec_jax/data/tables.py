"""Columns of a table in a file: CSV, TSV, Parquet, JSON lines, RecBole's form.

Rows are counted from 1, the header left out.
"""

import contextlib
import glob
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from mmgrec_jax.data import headers
from mmgrec_jax.errors import UserError, first_line

# A column beside those asked for: whether the line may have too few fields.
SHORT = "\0short"
# Text that JSON lines may have as a boolean, a list or an object.
MAYBE_OTHER = r"^(true$|false$|\[|\{)"


def scan(path: Path, flags: Mapping[str, str]) -> pl.LazyFrame:
  """The columns that are keys of `flags`, not read yet; of text files as text.

  Args:
    flags: column -> the flag that names it, for the message; "" for none.

  Raises:
    UserError: the file or a column is missing.
  """
  suffix = headers.kind(path)
  if suffix in headers.DELIMITED:
    return _scan_delimited(path, flags)
  _check_names(path, headers.column_names(path), flags)
  if suffix in headers.LINES:
    # Polars takes no byte order mark here, and has no glob=False.
    source = headers.behind_mark(path) or glob.escape(str(path))
    return pl.scan_ndjson(source, schema=dict.fromkeys(flags, pl.String))
  return pl.scan_parquet(path, glob=False).select(*flags)


def collect(path: Path, frame: pl.LazyFrame) -> pl.DataFrame:
  """Reads what `scan` began.

  Raises:
    UserError: naming the line that cannot be read.
  """
  # Where only some columns of text are read, Polars lets wider lines pass.
  some = headers.kind(path) not in headers.DELIMITED
  flags = pl.QueryOptFlags(projection_pushdown=some)
  with _explained(path):
    out = frame.collect(engine="streaming", optimizations=flags)
  if SHORT not in out.columns:
    return out
  maybe_short, out = out[SHORT], out.drop(SHORT)
  if maybe_short.any():
    separator, _ = headers.header_with(path, out.columns)
    fault = headers.short_line(path, separator)
    if fault:
      raise UserError(fault)
  return out


def read(path: Path, columns: Sequence[str]) -> pl.DataFrame:
  """Columns that the file's form fixes; of text files as text."""
  return collect(path, scan(path, dict.fromkeys(columns, "")))


def with_ids(path: Path, frame: pl.LazyFrame, *names: str) -> pl.LazyFrame:
  """Id columns as text, a missing id as null.

  Raises:
    UserError: a column's type is another. JSON lines have none: `check_ids`
      refuses what is neither number nor text there.
  """
  with _explained(path):
    schema = frame.collect_schema()
  for name in names:
    dtype = schema[name]
    if not (
      dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum)
    ):
      raise UserError(f"{path}: {name!r} holds {dtype}; {headers.MEND_IDS}")
  texts = {name: pl.col(name).cast(pl.String) for name in names}
  return frame.with_columns(
    pl.when(text != "").then(text).alias(name) for name, text in texts.items()
  )


def check_ids(path: Path, column: pl.Series) -> None:
  """Raises UserError at the first id that is missing or, in JSON, no id."""
  if column.null_count():
    row = column.is_null().arg_true()[0] + 1
    raise UserError(
      f"{path}: row {row} has no {column.name!r}; fill it in or leave the row"
      " out."
    )
  if headers.kind(path) not in headers.LINES:
    return
  # What was read as text may have been text: the file knows.
  maybe_other = column.unique().cast(pl.String).str.contains(MAYBE_OTHER)
  fault = headers.other_id(path, column.name) if maybe_other.any() else None
  if fault:
    raise UserError(fault)


def as_text(path: Path, column: pl.Series, mend: str) -> pl.Series:
  """A column as text. Raises UserError, with `mend`, if its type has none."""
  try:
    return column.cast(pl.String)
  except pl.exceptions.PolarsError as error:
    raise UserError(
      f"{path}: {column.name!r} holds {column.dtype}; {mend}."
    ) from error


def numbers(path: Path, column: pl.Series, dates: bool = False) -> np.ndarray:
  """A column as numbers: whole ones where all are, dates as microseconds.

  Args:
    dates: whether ISO dates will do, too.

  Raises:
    UserError: naming the first row that holds none, or the column's type.
  """
  what = "a number or an ISO date such as 2024-05-31" if dates else "a number"
  parsed = column
  # Decimals go by their text, too: NumPy has none.
  if not (column.dtype.is_integer() or column.dtype.is_float()):
    parsed = _parse(as_text(path, column, f"give every row {what}"), dates)
  bad = parsed.is_null()
  if parsed.dtype.is_float():
    bad |= ~parsed.is_finite().fill_null(False)
  if bad.any():
    row = bad.arg_true()[0]
    raise UserError(
      f"{path}: row {row + 1}, {column.name!r} is {column[row]!r}; give every"
      f" row {what}."
    )
  return parsed.to_numpy()


def _parse(text: pl.Series, dates: bool) -> pl.Series:
  """Text as numbers in the way that leaves the fewest nulls."""
  text = text.str.strip_chars()
  tries = [text.cast(dtype, strict=False) for dtype in (pl.Int64, pl.Float64)]
  best = min(tries, key=lambda parsed: parsed.null_count())
  if dates and best.null_count():
    try:
      # Polars reads 03/01/2024 too: as the day first, whatever was meant.
      iso = text.str.extract(r"^(\d{4}-.*)$")
      when = iso.str.to_datetime(strict=False, time_unit="us").dt.epoch("us")
    except pl.exceptions.PolarsError:  # nothing in it looks like a date
      return best
    best = min([best, when], key=lambda parsed: parsed.null_count())
  return best


def _scan_delimited(path: Path, flags: Mapping[str, str]) -> pl.LazyFrame:
  separator, names = headers.header_with(path, flags)
  _check_names(path, names, flags)
  # Those that nobody asks for may have one name, or none.
  different = [
    name if name in flags else f"\0{at}" for at, name in enumerate(names)
  ]
  return pl.scan_csv(
    path,
    separator=separator,
    quote_char=None if headers.kind(path) in headers.ATOMIC else '"',
    infer_schema=False,
    empty_string_is_null=False,
    new_columns=different,
    glob=False,
  ).select(*flags, (pl.col(different[-1]) == "").alias(SHORT))


def _check_names(
  path: Path, names: list[str], flags: Mapping[str, str]
) -> None:
  for column, flag in flags.items():
    times = names.count(column)
    if times == 1:
      continue
    if times:
      raise UserError(
        f"{path}: {times} columns are called {column!r}; rename all but one."
      )
    found = f"it has {', '.join(map(repr, names))}"
    if len(names) == 1 and headers.kind(path) in headers.DELIMITED:
      found = (
        f"its first line is {names[0]!r}, where comma, tab, semicolon or |"
        " should separate the columns"
      )
    hint = f"; name yours with {flag}" if flag else ""
    raise UserError(f"{path}: no column {column!r}; {found}{hint}.")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
  """Turns Polars' errors into one that names the line."""
  try:
    yield
  except headers.POLARS_ERRORS as error:
    raise UserError(
      headers.faulty_line(path)
      or f"{path}: cannot be read ({first_line(error)}); write the file again."
    ) from error
