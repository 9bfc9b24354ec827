import numpy as np
import pytest

from mmgrec_jax.arrays import write_arrays
from mmgrec_jax.errors import UserError
from mmgrec_jax.stages.vectors import read_vectors


@pytest.fixture
def written(tmp_path, small_data):
  """Reads a run's vectors, some of them changed."""

  def read(*names, **changes):
    arrays = {
      "user": np.ones((40, 3), np.float32),
      "item": np.ones((30, 3), np.float32),
      "codes": np.zeros((30, 2), int),
      "r2": np.array(0.5),
    }
    path = tmp_path / "vectors.npz"
    write_arrays(path, arrays | changes)
    return read_vectors(path, small_data, names, L=4)

  return read


def test_what_is_asked_for_comes_back_in_that_order(written):
  assert list(written("item", "user")) == ["item", "user"]
  assert list(written("r2", "codes")) == ["r2", "codes"]


@pytest.mark.parametrize(
  ("name", "array", "says"),
  [
    ("user", np.ones((41, 3)), "'user' is float64 .*, U = 40 was"),
    ("item", np.ones((30, 4)), "'item' is float64 .*, D = 3 was"),
    ("item", np.full((30, 3), np.nan), "'item' is not finite"),
    ("user", np.full((40, 3), 1e20), "'user' is not finite"),
    ("codes", np.full((30, 2), 4), "'codes' has values from 4 to 4"),
    ("codes", np.full((30, 2), -1), "'codes' has values from -1"),
    ("r2", np.array("good"), "'r2' is <U4"),
  ],
)
def test_what_does_not_fit_the_data_is_named(written, name, array, says):
  with pytest.raises(UserError, match=f"vectors.npz: {says}.*; delete it"):
    written("user", "item", "codes", "r2", **{name: array})


def test_what_a_run_does_not_have_is_named(written):
  with pytest.raises(UserError, match="vectors.npz: damaged .no 'known_us"):
    written("known_users")
