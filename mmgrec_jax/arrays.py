"""Files of arrays: no pickles, no memory for what a file does not hold.

An .npz that a run writes carries a SHA-256 of its arrays, as the comment of the
ZIP file that it is.
"""

import hashlib
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from mmgrec_jax import hosts
from mmgrec_jax.errors import UserError, first_line

# Deflate makes a file at most this many times smaller.
DEFLATE = 1032
KINDS = {float: "f", int: "iu", bool: "b", str: "U", bytes: "S"}


class Form(NamedTuple):
  """What an array must be.

  kind: float, int, bool, str or bytes; None: any of them.
  axes: a name for each dimension, such as IxD.
  below: the axis (or size) that its values are less than; '': any values.
  least: of its values, where there is `below`.
  """

  kind: type | None
  axes: str
  below: str = ""
  least: int = 0


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
  """An .npz, atomically; several processes come back when it is whole."""
  if hosts.is_first():
    scratch = path.with_name(f"tmp-{path.name}")
    np.savez(scratch, allow_pickle=False, **arrays)
    with zipfile.ZipFile(scratch, "a") as archive:
      archive.comment = digest(arrays).encode()
    scratch.replace(path)
  hosts.wait(path.name)
  hosts.in_time(path.is_file)


def digest(arrays: Mapping[str, np.ndarray]) -> str:
  """SHA-256 of names, types, shapes and values, in hex."""
  out = hashlib.sha256()
  for name, array in sorted(arrays.items()):
    array = np.asarray(array)
    out.update(repr((name, array.dtype.str, array.shape)).encode())
    out.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
  return out.hexdigest()


def read_arrays(
  path: Path, mend: str, forms: Mapping[str, Form] | None = None, **sizes: int
) -> dict[str, np.ndarray]:
  """What `write_arrays` wrote, all of it.

  Args:
    mend: what to do about a damaged file, for the message.
    forms, sizes: as of `check_arrays`.

  Raises:
    UserError: it is missing, damaged or changed, or an array is not as it must
      be.
  """
  arrays, comment = _read_npz(path, mend)
  if not comment:
    raise UserError(f"{path}: has no checksum: an older version's; {mend}.")
  if comment != digest(arrays).encode():
    raise UserError(f"{path}: damaged (its checksum is another's); {mend}.")
  check_arrays(path, arrays, mend, forms or {}, **sizes)
  return arrays


def read_npz(path: Path, mend: str) -> dict[str, np.ndarray]:
  """Any .npz, whoever wrote it; otherwise as `read_arrays`."""
  return _read_npz(path, mend)[0]


def check_arrays(
  path: Path,
  arrays: Mapping[str, np.ndarray],
  mend: str,
  forms: Mapping[str, Form],
  **sizes: int,
) -> None:
  """That arrays are there, and are of these forms.

  Args:
    forms: by name; an axis is as long wherever it is named.
    sizes: of axes whose length is known.

  Raises:
    UserError: naming the first that is not.
  """
  for name, form in forms.items():
    if name not in arrays:
      raise UserError(f"{path}: damaged (no {name!r}); {mend}.")
    array = arrays[name]
    axes = form.axes.split("x") if form.axes else []
    kinds = "biufSU" if form.kind is None else KINDS[form.kind]
    known = "".join(f", {a} = {sizes[a]}" for a in axes if a in sizes)
    fits = len(axes) == array.ndim and array.dtype.kind in kinds
    for axis, n in zip(axes, array.shape, strict=False):
      fits &= sizes.setdefault(axis, n) == n
    if not fits:
      raise UserError(
        f"{path}: {name!r} is {array.dtype} of shape {array.shape}, where"
        f" {form.kind.__name__ if form.kind else 'anything'} of [{form.axes}]"
        f"{known} was written; {mend}."
      )
    if form.below and array.size:
      low, high, most = array.min(), array.max(), sizes[form.below] - 1
      if low < form.least or high > most:
        raise UserError(
          f"{path}: {name!r} has values from {low} to {high}, outside"
          f" {form.least}..{most}; {mend}."
        )


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
      f"{path}: not a readable NumPy file without pickled objects"
      f" ({first_line(error)}); write it again with numpy.save."
    ) from error


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
  """Shape and type that an .npy begins with; ValueError, or any, if none."""
  read = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
  }[np.lib.format.read_magic(file)]
  shape, _, dtype = read(file)
  return shape, dtype


def _read_npz(path: Path, mend: str) -> tuple[dict[str, np.ndarray], bytes]:
  """Arrays by name, and the comment."""
  if not path.is_file():
    raise UserError(f"{path}: not found; {mend}.")
  try:
    with zipfile.ZipFile(path) as archive:
      most = DEFLATE * path.stat().st_size
      arrays = {
        info.filename.removesuffix(".npy"): _member(archive, info, most)
        for info in archive.infolist()
      }
      return arrays, archive.comment
  except Exception as error:  # zip, zlib and NumPy each raise their own kind
    raise UserError(
      f"{path}: damaged ({first_line(error)}); {mend}."
    ) from error


def _member(
  archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int
) -> np.ndarray:
  with archive.open(info) as file:
    shape, dtype = read_header(file)
  if math.prod(shape) * max(dtype.itemsize, 1) > min(info.file_size, most):
    raise ValueError(f"{info.filename} declares more than it holds")
  with archive.open(info) as file:
    return np.lib.format.read_array(file, allow_pickle=False)
