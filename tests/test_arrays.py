import io
import zipfile

import numpy as np
import pytest

from mmgrec_jax.arrays import (
  Form,
  check_arrays,
  digest,
  read_array,
  read_arrays,
  read_npz,
  write_arrays,
)
from mmgrec_jax.errors import UserError


def test_an_array_comes_back_and_is_no_longer_tied_to_its_file(tmp_path):
  path = tmp_path / "a.npy"
  np.save(path, np.arange(6).reshape(2, 3))
  array = read_array(path)
  path.write_bytes(b"")
  assert array.tolist() == [[0, 1, 2], [3, 4, 5]]
  array[0, 0] = 7


def declare(path, shape, held=8):
  """An .npy whose header promises `shape` and that holds `held` bytes."""
  with path.open("wb") as file:
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    file.write(bytes(held))


@pytest.mark.parametrize(
  "shape", [(3,), (10**6, 10**6), (2**40, 2**40), (10**30,), (2**62, 4)]
)
def test_more_declared_than_held_is_refused(tmp_path, shape):
  declare(tmp_path / "a.npy", shape)
  with pytest.raises(UserError, match=r"a\.npy: not a readable NumPy file"):
    read_array(tmp_path / "a.npy")


def test_objects_zips_and_other_files_are_refused(tmp_path):
  np.save(tmp_path / "a.npy", np.array([{}, 1], object), allow_pickle=True)
  np.savez(tmp_path / "b.npz", a=np.zeros(2))
  (tmp_path / "c.npy").write_text("user,item\n")
  for name in ("a.npy", "b.npz", "c.npy"):
    with pytest.raises(UserError, match=f"{name}: not a readable"):
      read_array(tmp_path / name)
  with pytest.raises(UserError, match=r"d\.npy: not found"):
    read_array(tmp_path / "d.npy")


ARRAYS = {
  "number": np.array(0.5),
  "matrix": np.asfortranarray(np.arange(6).reshape(2, 3)),
  "none": np.zeros((0, 3), np.float32),
  "texts": np.array(["ä", "bc"]),
  "keys": np.array([b"k", b""]),
  "marks": np.array([True, False]),
}


def test_arrays_come_back_as_they_were(tmp_path):
  path = tmp_path / "a.npz"
  write_arrays(path, ARRAYS)
  for back in (read_arrays(path, "mend it"), read_npz(path, ""), np.load(path)):
    assert list(back) == list(ARRAYS)
    for name, array in ARRAYS.items():
      assert back[name].dtype == array.dtype
      np.testing.assert_array_equal(back[name], array)
  assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def test_the_checksum_is_of_names_types_shapes_and_values():
  matrix = ARRAYS["matrix"]
  others = [
    {"a": matrix.copy("C")},
    {"b": matrix},
    {"a": matrix.astype(np.int32)},
    {"a": matrix.astype(">i8")},
    {"a": matrix.T},
    {"a": matrix.reshape(-1)},
    {"a": matrix + np.eye(2, 3, dtype=int)},
    {"a": matrix, "b": matrix},
  ]
  same, *rest = map(digest, others)
  assert same == digest({"a": matrix})
  assert len({same, *rest}) == len(others)


def test_an_array_that_another_wrote_is_refused(tmp_path):
  path, other = tmp_path / "a.npz", tmp_path / "b.npz"
  np.savez(path, a=np.arange(3))
  with pytest.raises(UserError, match="a.npz: has no checksum: .*; mend it"):
    read_arrays(path, "mend it")
  write_arrays(path, {"a": np.arange(3)})
  write_arrays(other, {"a": np.arange(1, 4)})
  with zipfile.ZipFile(path) as one, zipfile.ZipFile(other, "a") as two:
    two.comment = one.comment
  with pytest.raises(UserError, match="b.npz: damaged .its checksum is"):
    read_arrays(other, "mend it")


def packed(path, *headers):
  """An .npz of members that declare (type, shape) and hold 8 bytes."""
  with zipfile.ZipFile(path, "w") as archive:
    for number, (descr, shape) in enumerate(headers):
      member = io.BytesIO()
      header = {"descr": descr, "fortran_order": False, "shape": shape}
      np.lib.format.write_array_header_1_0(member, header)
      archive.writestr(f"{number}.npy", member.getvalue() + bytes(8))


@pytest.mark.parametrize(
  "header",
  [
    ("<f4", (10**6, 10**6)), ("<f4", (10**30,)), ("<U0", (10**12,)),
    ("<U100000000", ()), ("|O", ()), ("<f8", (2,)),
  ],
)  # fmt: skip
def test_members_that_hold_less_than_they_declare_are_refused(tmp_path, header):
  packed(tmp_path / "a.npz", ("<f8", (1,)), header)
  for read in (read_arrays, read_npz):
    with pytest.raises(UserError, match=r"a\.npz: damaged \(.*\); mend it"):
      read(tmp_path / "a.npz", "mend it")


def test_what_is_no_npz_is_refused(tmp_path):
  np.save(tmp_path / "a.npz.npy", np.zeros(2))
  (tmp_path / "b.npz").write_bytes(b"")
  np.savez(tmp_path / "c.npz", allow_pickle=True, a=np.array([{}]))
  for name, says in [("a.npz", "not found"), ("b.npz", "d"), ("c.npz", "d")]:
    with pytest.raises(UserError, match=f"{name}: {says}"):
      read_npz(tmp_path / name, "mend it")


@pytest.mark.parametrize(
  ("forms", "says"),
  [
    ({"matrix": Form(int, "AxB"), "texts": Form(str, "A")}, None),
    ({"number": Form(float, ""), "marks": Form(bool, "A")}, None),
    ({"keys": Form(bytes, "A"), "none": Form(None, "CxB")}, None),
    ({"matrix": Form(int, "AxB", below="six", least=0)}, None),
    ({"other": Form(int, "A")}, "damaged .no 'other'."),
    ({"matrix": Form(float, "AxB")}, "'matrix' is int64 of shape .2, 3.,"),
    ({"matrix": Form(int, "A")}, "where int of .A. was written; mend"),
    ({"matrix": Form(int, "AxA")}, "of .AxA. was written"),
    ({"matrix": Form(int, "AxB"), "none": Form(float, "CxA")}, "'none' is"),
    ({"texts": Form(str, "three")}, "three = 3"),
    ({"matrix": Form(int, "AxB", below="three")}, "from 0 to 5, outside 0..2"),
    ({"matrix": Form(int, "AxB", "six", 1)}, "from 0 to 5, outside 1..5"),
  ],
)
def test_arrays_of_another_form_are_named(tmp_path, forms, says):
  check = lambda: check_arrays(
    tmp_path, ARRAYS, "mend it", forms, three=3, six=6
  )
  if says is None:
    check()
    return
  with pytest.raises(UserError, match=says):
    check()
