import numpy as np
import pytest

from mmgrec_jax.data import interactions
from mmgrec_jax.errors import UserError


def test_duplicates_keep_the_first_and_are_counted():
  user, item = np.array([1, 0, 1, 1]), np.array([2, 2, 2, 0])
  keep, merged = interactions.merge_duplicates(user, item)
  assert keep.tolist() == [0, 1, 3]
  assert merged == 1


def test_numbers_follow_the_first_occurrence():
  number, first = interactions.number(np.array([7, 3, 7, 9, 3], np.uint32))
  assert number.tolist() == [0, 1, 0, 2, 1]
  assert first.tolist() == [0, 1, 3]


def test_k_core_goes_on_until_everyone_left_has_enough(rng):
  user, item = rng.integers(0, 40, 300), rng.integers(0, 30, 300)
  rows = interactions.k_core(user, item, 6)
  assert 0 < len(rows) < 300
  for column in (user[rows], item[rows]):
    assert np.unique(column, return_counts=True)[1].min() >= 6
  # One user short of k takes an item along, and that another user.
  chain = np.array([[0, 0], [0, 1], [1, 1], [1, 2], [2, 2]])
  assert len(interactions.k_core(*chain.T, 2)) == 0


def test_rows_taken_are_numbered_anew_with_their_ids():
  table = interactions.Interactions(
    np.array([0, 1, 2]),
    np.array([1, 0, 1]),
    np.array(["a", "b", "c"]),
    np.array(["x", "y"]),
    np.array([5, 6, 7]),
  )
  left = interactions.take(table, np.array([2]))
  assert left.user_ids.tolist() == ["c"] and left.item_ids.tolist() == ["y"]
  assert left.user_E.tolist() == [0] and left.item_E.tolist() == [0]
  assert left.time_E is not None and left.time_E.tolist() == [7]


def test_an_open_quote_is_found_by_the_length_of_the_id(tmp_path):
  path = tmp_path / "a.csv"
  path.write_text("user,item\nann,x\n" + "b" * 300 + ",y\n")
  with pytest.raises(UserError, match="row 2, 'user' is 300 characters long"):
    interactions.read_interactions(path, "user", "item")
