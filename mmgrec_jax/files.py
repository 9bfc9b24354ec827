"""Files that a kill leaves whole, and arrays that are what they declare."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmgrec_jax import hosts
from mmgrec_jax.errors import UserError


def sha256(path: Path) -> str:
  """Of a file, in hex."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def changed_file(folder: Path, digests: dict[str, str]) -> Path | None:
  """The first file that is missing or has another SHA-256; None: all agree."""
  for name, digest in digests.items():
    path = folder / name
    if not path.is_file() or sha256(path) != digest:
      return path
  return None


def read_json(path: Path, mend: str) -> dict:
  """A JSON object.

  Args:
    mend: what to do about a damaged one, for the message.

  Raises:
    UserError: it cannot be read, or is something else.
  """
  try:
    value = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f"{path}: damaged ({error}); {mend}.") from error
  if not isinstance(value, dict):
    raise UserError(f"{path}: damaged (no JSON object); {mend}.")
  return value


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
  """An .npz, atomically; several processes come back when it is whole."""
  if hosts.is_first():
    scratch = path.with_name(f"tmp-{path.name}")
    np.savez(scratch, allow_pickle=False, **arrays)
    scratch.replace(path)
  hosts.wait(path.name)


def is_made(path: Path) -> bool:
  """Whether a file is there; several processes get one answer."""
  return bool(hosts.firsts(path.is_file()))


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


def read_array(path: Path) -> np.ndarray:
  """An .npy, whole. It is mapped first: no memory for what is not there.

  Raises:
    UserError: it is missing, cut off, declares more than it holds, or holds
      pickled objects.
  """
  if not path.is_file():
    raise UserError(f"{path}: not found.")
  try:
    return np.array(np.lib.format.open_memmap(path, mode="r"))
  except Exception as error:  # NumPy and mmap each raise their own kind
    raise UserError(
      f"{path}: not a readable NumPy file without pickled objects ({error});"
      " write it again with numpy.save."
    ) from error
