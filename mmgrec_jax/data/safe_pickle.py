"""Pickles of published data sets, read without running anything in them.

The names that NumPy and SciPy put into a pickle stand for the few classes
below, which only keep what they are given; any other name is refused. Arrays
are built from their bytes here, and never by NumPy's own unpickling, which
trusts what a pickle says of itself.
"""

import io
import pickle
import re
from pathlib import Path
from typing import IO, Any

import numpy as np

from mmgrec_jax.arrays import read_array, read_header
from mmgrec_jax.errors import UserError


class _Dtype:
  """numpy.dtype: a kind, a size and a byte order, nothing nested."""

  def __init__(self, spec: str, *_):
    if not re.fullmatch(r"[biufUSO]\d*", spec):
      raise ValueError(f"an array of dtype {spec!r}")
    self.spec = spec

  def __setstate__(self, state: tuple) -> None:
    if state[1] in ("<", ">"):
      self.spec = state[1] + self.spec

  def array(self, raw: Any, shape: tuple, order: str) -> np.ndarray:
    dtype = np.dtype(self.spec)
    if dtype.hasobject:
      flat = np.empty(len(raw), object)
      for place, value in enumerate(raw):  # lists must stay lists
        flat[place] = plain(value)
    else:
      raw = raw.encode("latin1") if isinstance(raw, str) else raw
      flat = np.frombuffer(raw, dtype)
    return flat.reshape(shape, order="F" if order == "F" else "C")


class _Array:
  """numpy.ndarray, and what NumPy calls to build one."""

  def __init__(self, *_):
    self.value = np.empty(0)

  def __setstate__(self, state: tuple) -> None:
    _, shape, dtype, fortran, raw = state
    self.value = dtype.array(raw, shape, "F" if fortran else "C")


class SparseMatrix(dict):
  """A SciPy matrix as pickled: attributes, and for old 'dok' ones entries."""

  form = ""


def _from_buffer(raw: Any, dtype: _Dtype, shape: tuple, order: str) -> _Array:
  out = _Array()
  out.value = dtype.array(bytes(raw), shape, order)
  return out


def _scalar(dtype: _Dtype, raw: Any) -> Any:
  return dtype.array(raw, (1,), "C")[0]


def _old_dok(cls: type, base: type, entries: dict) -> SparseMatrix:
  if not issubclass(cls, SparseMatrix):
    raise ValueError(f"it builds a {cls.__name__}")
  return cls(entries)


def _latin1(text: str, encoding: str) -> bytes:
  if encoding != "latin1":
    raise ValueError(f"it decodes {encoding}")
  return text.encode("latin1")


_FORMS = {
  name: type(name, (SparseMatrix,), {"form": form})
  for form in ("coo", "csr", "csc", "dok", "lil")
  for name in (f"{form}_matrix", f"{form}_array")
}
_NUMPY = {
  "ndarray": _Array,
  "dtype": _Dtype,
  "_reconstruct": _Array,
  "scalar": _scalar,
  "_frombuffer": _from_buffer,
}
# What NumPy's bytes and SciPy's 'dok' need of Python, in old and new pickles.
_PYTHON = {
  "_codecs.encode": _latin1,
  "copyreg._reconstructor": _old_dok,
  "copy_reg._reconstructor": _old_dok,
  "builtins.dict": dict,
  "__builtin__.dict": dict,
}


class _Unpickler(pickle._Unpickler):
  """In Python: in C, a number in a pickle can claim any amount of memory."""

  dispatch = {
    **pickle._Unpickler.dispatch,
    # A bytearray is made as long as it says, bytes as long as the file is.
    pickle.BYTEARRAY8[0]: pickle._Unpickler.dispatch[pickle.BINBYTES8[0]],
  }

  def find_class(self, module_name: str, global_name: str) -> Any:
    name = f"{module_name}.{global_name}"
    if name in _PYTHON:
      return _PYTHON[name]
    allowed = {}
    if module_name.startswith("scipy.sparse"):
      allowed = _FORMS
    elif module_name.split(".")[0] == "numpy":
      allowed = _NUMPY
    if global_name not in allowed:
      raise ValueError(f"it asks for {name}")
    return allowed[global_name]


def load_pickle(path: Path) -> Any:
  """A pickle of arrays, SciPy matrices, lists, dicts and numbers.

  Raises:
    UserError: it asks for anything else, which is named, or is damaged.
  """
  if not path.is_file():
    raise UserError(f"{path}: not found.")
  with path.open("rb") as file:
    return _load(path, file)


def load_objects(path: Path) -> Any:
  """An .npy with objects in it; one without a dimension as what it holds."""
  if not path.is_file():
    raise UserError(f"{path}: not found.")
  with path.open("rb") as file:
    try:
      _, dtype = read_header(file)
    except Exception as error:
      raise UserError(
        f"{path}: not a NumPy file ({error}); write it again with numpy.save."
      ) from error
    if not dtype.hasobject:
      return read_array(path)
    loaded = _load(path, file)
  return loaded.item() if np.ndim(loaded) == 0 else loaded


def _load(path: Path, file: IO[bytes]) -> Any:
  try:
    whole = io.BytesIO(file.read())
    return plain(_Unpickler(whole, encoding="latin1").load())
  except Exception as error:  # a crafted pickle can raise anything
    raise UserError(
      f"{path}: refused: a pickle may hold only NumPy and SciPy arrays, lists"
      f" and dicts, but {error}; get the file from its source again, or save"
      " the arrays with numpy.save."
    ) from error


def plain(value: Any) -> Any:
  """The array, where `value` stands for one."""
  return value.value if isinstance(value, _Array) else value


def edges(path: Path, matrix: Any) -> tuple[np.ndarray, np.ndarray]:
  """Row and column of each entry of a pickled matrix that is not 0.

  Raises:
    UserError: it is no sparse matrix, or its arrays do not fit together.
  """
  if not isinstance(matrix, SparseMatrix):
    raise UserError(
      f"{path}: holds a {type(matrix).__name__}, no SciPy matrix of users and"
      " items; give the file that the data set was published with."
    )
  state = {name: plain(value) for name, value in vars(matrix).items()}
  try:
    row, column, value = _READERS[matrix.form](matrix, state)
    chosen = np.asarray(value) != 0
    return np.asarray(row)[chosen], np.asarray(column)[chosen]
  except Exception as error:
    raise UserError(
      f"{path}: its {matrix.form} matrix is damaged ({error!r}); get the file"
      " from its source again."
    ) from error


def _coo(_, state):
  row, column = state.get("coords") or (state["row"], state["col"])
  return plain(row), plain(column), state["data"]


def _csr(_, state):
  lengths = np.diff(state["indptr"])
  if lengths.min() < 0 or lengths.sum() != len(state["indices"]):
    raise ValueError("indptr and indices do not fit")
  row = np.repeat(np.arange(len(lengths)), lengths)
  return row, state["indices"], state["data"]


def _csc(matrix, state):
  column, row, value = _csr(matrix, state)
  return row, column, value


def _dok(matrix, state):
  entries = state.get("_dict", matrix)
  row, column = np.array(list(entries)).reshape(-1, 2).T
  return row, column, [plain(value) for value in entries.values()]


def _lil(_, state):
  lengths = [len(row) for row in state["rows"]]
  join = lambda lists: np.concatenate([np.asarray(x) for x in lists])
  row = np.repeat(np.arange(len(lengths)), lengths)
  return row, join(state["rows"]), join(state["data"])


_READERS = {"coo": _coo, "csr": _csr, "csc": _csc, "dok": _dok, "lil": _lil}
