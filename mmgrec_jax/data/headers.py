"""What kind of table a file is, what its columns are called, where it breaks.

The text forms may be packed with gzip (`.gz`).
"""

import codecs
import contextlib
import csv
import gzip
import json
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import polars as pl

from mmgrec_jax.errors import UserError

# RecBole's atomic files: tabs, no quoting, 'name:type' in the header.
ATOMIC = (".inter", ".item", ".user")
DELIMITED = (".csv", ".tsv", ".txt", *ATOMIC)
LINES = (".jsonl", ".ndjson", ".json")
SEPARATORS = (",", "\t", ";", "|")
UNREADABLE = (OSError, EOFError, zlib.error)
MEND_IDS = "ids are text or whole numbers: write that column as one of them."
POLARS_ERRORS = (
  pl.exceptions.PolarsError,
  pl.exceptions.PanicException,
  OSError,
)


def kind(path: Path) -> str:
  """The suffix that says what the file holds, `.gz` aside.

  Raises:
    UserError: no such file, an empty one, or a suffix that is not known.
  """
  if not path.is_file():
    raise UserError(f"{path}: not found.")
  if not path.stat().st_size:
    raise UserError(f"{path}: empty; the first line names the columns.")
  known = (*DELIMITED, ".parquet", *LINES)
  suffix = Path(path.name.lower().removesuffix(".gz")).suffix
  if suffix not in known:
    raise UserError(
      f"{path}: what it holds is not known by its name; give it one of the"
      f" endings {', '.join(known)}."
    )
  return suffix


def column_names(path: Path) -> list[str]:
  """What the columns are called."""
  suffix = kind(path)
  if suffix in LINES:
    return list(_first_record(path))
  if suffix == ".parquet":
    return list(_parquet_schema(path))
  return max(by_separator(path).values(), key=len)


def by_separator(path: Path) -> dict[str, list[str]]:
  """Separator -> the column names that it makes of the first line."""
  line = _first_line(path)
  if kind(path) in ATOMIC:
    return {"\t": list(atomic_types(path))}
  try:
    return {s: next(csv.reader([line], delimiter=s)) for s in SEPARATORS}
  except csv.Error as error:
    raise UserError(
      f"{path}: the first line is no header ({error}); save the file with the"
      " line ends of Linux or Windows."
    ) from error


def header_with(path: Path, columns: Collection[str]) -> tuple[str, list[str]]:
  """The separator under which these columns are there, else the likeliest; and
  all names that it makes."""
  names_by = by_separator(path)
  likeliest = max(names_by, key=lambda s: len(names_by[s]))
  fitting = (s for s in names_by if set(columns) <= set(names_by[s]))
  separator = next(fitting, likeliest)
  return separator, names_by[separator]


def atomic_types(path: Path) -> dict[str, str]:
  """Column -> type, as the header of RecBole's form has them."""
  heads = [head.partition(":") for head in _first_line(path).split("\t")]
  return {name: type_name for name, _, type_name in heads}


def behind_mark(path: Path) -> bytes:
  """All that follows a byte order mark; nothing where there is none."""
  with _readable(path) as file:
    marked = file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
    return file.read() if marked else b""


def faulty_line(path: Path) -> str | None:
  """What is wrong with the first bad line of a text file, if one is."""
  suffix = kind(path)
  if suffix == ".parquet":
    return None
  find = _bad_json if suffix in LINES else _bad_width
  try:
    with _open(path) as file:
      return find(path, _decoded(path, file))
  except UserError as error:
    return str(error)
  except (*UNREADABLE, csv.Error):
    return None


def short_line(path: Path, separator: str) -> str | None:
  """What is wrong with the first line of too few fields, if there is one."""
  try:
    with _open(path) as file:
      reader = _reader(path, _decoded(path, file), separator)
      width = len(next(reader))
      for row in reader:
        if row and len(row) < width:
          return _wrong_width(path, reader.line_num, len(row), width)
  except (*UNREADABLE, csv.Error):
    pass
  return None


def other_id(path: Path, column: str) -> str | None:
  """What is wrong with the first id in JSON that is no number and no text."""
  with _readable(path) as file:
    for number, line in enumerate(_decoded(path, file), start=1):
      record = _parsed(line)
      value = record.get(column) if isinstance(record, dict) else None
      if isinstance(value, bool | list | dict):
        return (
          f"{path}: line {number}, {column!r} is {json.dumps(value)};"
          f" {MEND_IDS}"
        )
  return None


def _open(path: Path) -> BinaryIO:
  if path.suffix.lower() == ".gz":
    return cast(BinaryIO, gzip.open(path))
  return path.open("rb")


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[BinaryIO]:
  """`_open`, where what cannot be read is the person's to mend."""
  try:
    with _open(path) as file:
      yield file
  except UNREADABLE as error:
    raise UserError(
      f"{path}: cannot be read ({error}); copy it again."
    ) from error


def _first_line(path: Path) -> str:
  with _readable(path) as file:
    line = next(iter(_decoded(path, file)), "").rstrip("\r\n")
  if not line.strip():
    raise UserError(f"{path}: the first line is empty; it names the columns.")
  return line


def _decoded(path: Path, file: Iterable[bytes]) -> Iterable[str]:
  for number, line in enumerate(file, start=1):
    try:
      yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
      raise UserError(
        f"{path}: line {number} is not UTF-8; save the file with that encoding"
        " (in a spreadsheet: 'CSV UTF-8')."
      ) from error


def _first_record(path: Path) -> dict:
  record = _parsed(_first_line(path))
  if not isinstance(record, dict):
    raise UserError(
      f"{path}: the first line is no JSON object; write one to a line, such as"
      ' {"user": "ann", "item": "x"}.'
    )
  return record


def _parsed(line: str) -> Any:
  """JSON; None where it is none that Python can hold."""
  try:
    return json.loads(line)
  except (ValueError, RecursionError):
    return None


def _parquet_schema(path: Path) -> Mapping[str, pl.DataType]:
  try:
    return pl.read_parquet_schema(path)
  except POLARS_ERRORS as error:
    raise UserError(
      f"{path}: not a readable Parquet file ({error}); write it again."
    ) from error


def _bad_json(path: Path, lines: Iterable[str]) -> str | None:
  for number, line in enumerate(lines, start=1):
    try:
      json.loads(line)
    except (ValueError, RecursionError) as error:
      return f"{path}: line {number} is no JSON object ({error}); mend it."
  return None


def _reader(
  path: Path, lines: Iterable[str], separator: str, strict: bool = False
):
  quoting = csv.QUOTE_NONE if kind(path) in ATOMIC else csv.QUOTE_MINIMAL
  return csv.reader(lines, delimiter=separator, quoting=quoting, strict=strict)


def _bad_width(path: Path, lines: Iterable[str]) -> str | None:
  atomic = kind(path) in ATOMIC
  headers = by_separator(path)
  separator = max(headers, key=lambda s: len(headers[s]))
  width = len(headers[separator])
  # Neither after a separator or another mark, nor before one or the line's end.
  lone = re.compile(f'(?<=[^"{separator}])"(?=[^"{separator}\r\n])')
  kept: list[str] = []  # the lines of a row

  def keep():
    for line in lines:
      kept.append(line)
      yield line

  reader = _reader(path, keep(), separator, strict=True)
  first = 1
  try:
    for row in reader:
      if row and len(row) != width:
        return _wrong_width(path, reader.line_num, len(row), width)
      if not atomic and any(map(lone.search, kept)):
        return _bad_quote(path, first)
      first = reader.line_num + 1
      kept.clear()
  except csv.Error:
    return _bad_quote(path, first)
  return None


def _wrong_width(path: Path, line: int, fields: int, width: int) -> str:
  mend = "fill it in, or copy the file again if it is cut off"
  if fields > width:
    mend = "quote a field that holds the separator"
  return f"{path}: line {line} has {fields} fields, the header {width}; {mend}."


def _bad_quote(path: Path, line: int) -> str:
  return (
    f"{path}: line {line} has a quotation mark inside a field, or one that is"
    " not closed; put the whole field in quotation marks and write one that"
    ' belongs to it twice, as in "19"" rack".'
  )
