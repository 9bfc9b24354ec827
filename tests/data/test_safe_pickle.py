import os
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from mmgrec_jax.data import safe_pickle
from mmgrec_jax.errors import UserError

PAIRS = [(0, 2), (1, 0), (1, 3), (3, 1)]


def matrix(form, kind="matrix"):
  row, column = np.array(PAIRS).T
  whole = sparse.coo_matrix((np.ones(len(PAIRS)), (row, column)), (4, 5))
  return getattr(sparse, f"{form}_{kind}")(whole)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["matrix", "array"])
@pytest.mark.parametrize("form", ["coo", "csr", "csc", "dok", "lil"])
def test_every_sparse_form_gives_its_entries(tmp_path, form, kind, protocol):
  path = tmp_path / "m.pkl"
  path.write_bytes(pickle.dumps(matrix(form, kind), protocol))
  row, column = safe_pickle.edges(path, safe_pickle.load_pickle(path))
  found = zip(row.tolist(), column.tolist(), strict=True)
  assert sorted(found) == PAIRS


def test_entries_that_are_stored_as_0_do_not_count(tmp_path):
  stored = matrix("csr")
  stored.data[0] = 0
  (tmp_path / "m.pkl").write_bytes(pickle.dumps(stored))
  row, _ = safe_pickle.edges(
    tmp_path / "m.pkl", safe_pickle.load_pickle(tmp_path / "m.pkl")
  )
  assert row.tolist() == [1, 1, 3]


@pytest.mark.parametrize(
  "value",
  [
    np.array([[1, 0, 3], [4, 5, 6]], np.int32, order="F"),
    np.array([1.5, -2], ">f8"),
    np.array(["ann", "é🎬"]),
    np.array([True, False]),
  ],
)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_come_back_as_they_were(tmp_path, value, protocol):
  path = tmp_path / "a.pkl"
  path.write_bytes(pickle.dumps(value, protocol))
  found = safe_pickle.load_pickle(path)
  assert found.dtype == value.dtype and np.array_equal(found, value)


def test_an_npy_of_lists_and_one_of_a_dict_come_back(tmp_path):
  lists = np.empty(2, object)
  lists[:] = [[0, 3, 4], [1, 5]]
  np.save(tmp_path / "val.npy", lists, allow_pickle=True)
  assert safe_pickle.load_objects(tmp_path / "val.npy").tolist() == [
    [0, 3, 4],
    [1, 5],
  ]
  of_user = {0: [3, 4], np.int64(1): [5]}
  np.save(tmp_path / "d.npy", np.array(of_user), allow_pickle=True)
  assert safe_pickle.load_objects(tmp_path / "d.npy") == of_user
  np.save(tmp_path / "n.npy", np.arange(3))
  assert safe_pickle.load_objects(tmp_path / "n.npy").tolist() == [0, 1, 2]


class Bomb:
  def __init__(self, function, *arguments):
    self.call = function, arguments

  def __reduce__(self):
    return self.call


@pytest.mark.parametrize(
  ("function", "name"),
  [
    (os.mkdir, r"posix\.mkdir"),
    (eval, r"builtins\.eval"),
    (getattr, r"builtins\.getattr"),
    (np.load, r"numpy\.load"),
    (sparse.load_npz, r"scipy\.sparse\..*load_npz"),
  ],
)
@pytest.mark.parametrize("as_npy", [False, True])
def test_a_pickle_that_calls_something_is_refused_by_name(
  tmp_path, function, name, as_npy
):
  target = tmp_path / "made"
  bomb = Bomb(function, str(target))
  path = tmp_path / "m.pkl"
  if as_npy:
    np.save(path.with_suffix(".npy"), np.array([bomb, 1], object))
    load, path = safe_pickle.load_objects, path.with_suffix(".npy")
  else:
    path.write_bytes(pickle.dumps(bomb))
    load = safe_pickle.load_pickle
  with pytest.raises(UserError, match=f"{path.name}: refused: .*{name}"):
    load(path)
  assert not target.exists()


class Forged:
  """Pickles as an array of objects whose state is raw bytes."""

  def __reduce__(self):
    build, arguments, _ = np.zeros(0).__reduce__()
    return build, arguments, (1, (1,), np.dtype("O"), False, b"\x41" * 8)


def test_bytes_are_never_taken_for_objects(tmp_path):
  (tmp_path / "m.pkl").write_bytes(pickle.dumps(Forged()))
  with pytest.raises(UserError, match=r"m\.pkl: refused"):
    safe_pickle.load_pickle(tmp_path / "m.pkl")


@pytest.mark.parametrize("keep", [0, 30, 150])
def test_a_pickle_cut_off_is_named(tmp_path, keep):
  path = tmp_path / "m.pkl"
  path.write_bytes(pickle.dumps(matrix("csr"))[:keep])
  with pytest.raises(UserError, match=r"m\.pkl: refused"):
    safe_pickle.load_pickle(path)


def test_a_matrix_whose_arrays_do_not_fit_is_named(tmp_path):
  for form, field, value in [
    ("csr", "indptr", np.array([0, 9, 3, 3, 4])),
    ("csr", "indices", np.array([0])),
    ("coo", "data", np.ones(9)),
  ]:
    broken = matrix(form)
    setattr(broken, field, value)
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(broken))
    with pytest.raises(UserError, match=f"m.pkl: its {form} matrix is damaged"):
      safe_pickle.edges(path, safe_pickle.load_pickle(path))
  path.write_bytes(pickle.dumps([1, 2]))
  with pytest.raises(UserError, match="holds a list, no SciPy matrix"):
    safe_pickle.edges(path, safe_pickle.load_pickle(path))


@pytest.mark.parametrize(
  "claim",
  [
    b"]r\xff\xff\xff\x7f.",  # a place in the memo: 16 GiB of pointers
    b"\x96" + (2**35).to_bytes(8, "little") + b".",  # a bytearray
    b"\x8e" + (2**35).to_bytes(8, "little") + b".",  # bytes
    b"\x95" + (2**35).to_bytes(8, "little") + b".",  # a frame
  ],
)
def test_a_pickle_gets_no_memory_for_what_it_only_claims(tmp_path, claim):
  path = tmp_path / "m.pkl"
  path.write_bytes(b"\x80\x05" + claim)
  before = resource.getrlimit(resource.RLIMIT_AS)
  resource.setrlimit(resource.RLIMIT_AS, (address_space() + 2**31, before[1]))
  try:
    assert safe_pickle.load_pickle(path) == []
  except UserError as error:
    assert not isinstance(error.__cause__, MemoryError)
  finally:
    resource.setrlimit(resource.RLIMIT_AS, before)


def address_space():
  pages = int(Path("/proc/self/statm").read_text().split()[0])
  return pages * resource.getpagesize()


def test_an_npy_of_numbers_that_is_cut_off_is_named(tmp_path):
  path = tmp_path / "train.npy"
  np.save(path, np.arange(9))
  path.write_bytes(path.read_bytes()[:-8])
  with pytest.raises(UserError, match=r"train\.npy: not a readable"):
    safe_pickle.load_objects(path)
