import numpy as np
import pytest

from mmgrec_jax.errors import UserError
from mmgrec_jax.files import read_array


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
