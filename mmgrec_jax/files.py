"""Files that a kill leaves whole, and that are what they were written as."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmgrec_jax import hosts
from mmgrec_jax.errors import UserError

# What to do about a damaged file of a run, for messages.
AGAIN = "delete it and give the command again that wrote it"

# Of numbers in JSON: what can be reckoned with. NaN is none.
MOST = {int: 2**53, float: 1e300}


def sha256(path: Path) -> str:
  """Of a file, in hex."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def changed_file(
  folder: Path, digests: Mapping[str, str], needed: Iterable[str]
) -> Path | None:
  """The first file that is missing or has another SHA-256, or is needed and has
  none; None: all agree."""
  for name in dict.fromkeys([*digests, *needed]):  # each is read once
    path = folder / name
    try:
      if sha256(path) != digests.get(name):
        return path
    except (OSError, ValueError):  # such as a name that no file can have
      return path
  return None


def read_json(path: Path, mend: str, form: Any = None) -> dict:
  """A JSON object.

  Args:
    mend: what to do about a damaged one, for the message.
    form: what is needed of it, as of `misfit`.

  Raises:
    UserError: it cannot be read, or is something else.
  """
  return _parse(path, _read_text(path, mend), mend, form)


def read_json_lines(path: Path, mend: str, form: Any = None) -> list[dict]:
  """A JSON object of each line; otherwise as `read_json`."""
  lines = _read_text(path, mend).splitlines()
  return [_parse(path, line, mend, form) for line in lines]


def check_json(path: Path, value: dict, mend: str, form: Any) -> None:
  """Raises UserError where what `read_json` gave is not of a form."""
  wrong = misfit(value, form)
  if wrong:
    raise UserError(
      f"{path}: damaged ({wrong[1:]!r} is missing or wrong); {mend}."
    )


def _parse(path: Path, text: str, mend: str, form: Any) -> dict:
  try:
    value = json.loads(text)
  except (ValueError, RecursionError) as error:
    raise UserError(f"{path}: damaged ({error}); {mend}.") from error
  if not isinstance(value, dict):
    raise UserError(f"{path}: damaged (no JSON object); {mend}.")
  check_json(path, value, mend, form or {})
  return value


def _read_text(path: Path, mend: str) -> str:
  if not path.is_file():
    raise UserError(f"{path}: not found; {mend}.")
  try:
    return path.read_text(encoding="utf-8")
  except (OSError, ValueError) as error:
    raise UserError(f"{path}: damaged ({error}); {mend}.") from error


def misfit(value: Any, form: Any) -> str | None:
  """Where JSON is not of a form, such as '.a.b'; None: nowhere.

  Args:
    form: a type; or an object's, {name: form, …}, and with {str: form} that of
      all its other fields; or [form], a list's entries'; or (form,), of what
      may be missing. A float may be an int; no number is larger than `MOST`.
  """
  if isinstance(form, dict):
    if not isinstance(value, dict):
      return ""
    others = dict.fromkeys(value, form[str]) if str in form else {}
    forms = others | {name: of for name, of in form.items() if name is not str}
    parts = [(name, value.get(name), of) for name, of in forms.items()]
  elif isinstance(form, list):
    if not isinstance(value, list):
      return ""
    parts = [(str(place), one, form[0]) for place, one in enumerate(value)]
  elif isinstance(form, tuple):
    return None if value is None else misfit(value, form[0])
  elif form in (int, float):
    number = type(value) in (int, form)
    return None if number and abs(value) <= MOST[type(value)] else ""
  else:
    return None if type(value) is form else ""
  for name, part, of in parts:
    where = misfit(part, of)
    if where is not None:
      return f".{name}{where}"
  return None


def write_text(path: Path, text: str) -> None:
  """Atomically: a kill, or a full disk, leaves the old file or the new one."""
  scratch = path.with_name(f"{path.name}.tmp")
  scratch.write_text(text, encoding="utf-8")
  scratch.replace(path)


def is_made(path: Path) -> bool:
  """Whether a file is there; several processes get one answer."""
  # The first alone looks: to others a network file system would go on saying
  # that it is not there once the first has written it.
  return bool(hosts.firsts(hosts.is_first() and path.is_file()))


def check_free(folder: Path) -> None:
  """Raises UserError where something is already."""
  if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
    raise UserError(
      f"{folder}: there is something already; delete it or give another place."
    )


@contextlib.contextmanager
def write_folder(folder: Path) -> Iterator[Path]:
  """A new folder, that is there only when all in it has been written.

  Raises:
    UserError: something is there already, or it cannot be written.
  """
  check_free(folder)
  whole = folder.absolute()
  scratch = whole.with_name(f".{whole.name}-{os.getpid()}")
  try:
    scratch.mkdir(parents=True)
    yield scratch
    scratch.replace(whole)
  except OSError as error:
    raise UserError(
      f"{folder}: cannot be written ({error}); give another place."
    ) from error
  finally:
    shutil.rmtree(scratch, ignore_errors=True)
