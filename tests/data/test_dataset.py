import dataclasses

import numpy as np
import pytest

from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.errors import UserError


def make(**changes) -> Dataset:
  arrays = dict(
    name="tiny",
    user_E=np.array([0, 0, 1, 2], np.int32),
    item_E=np.array([0, 1, 1, 2], np.int32),
    split_E=np.array([0, 2, 0, 1], np.int8),
    features={"text": np.eye(3, dtype=np.float32)},
    user_ids=np.array(["ann", "bob", "eve"]),
    item_ids=np.array(["x", "y", "z"]),
  )
  return Dataset(**{**arrays, **changes})


@pytest.mark.parametrize(
  ("changes", "says"),
  [
    ({"item_E": np.array([0, 1, 1], np.int32)}, "'item' must hold 4 integers"),
    ({"item_E": np.array([0.0, 1, 1, 2])}, "'item' must hold 4 integers"),
    ({"item_E": np.array([0, 1, 1, 3])}, "'item' of row 3 is 3"),
    ({"user_E": np.array([0, -1, 1, 2])}, "'user' of row 1 is -1"),
    ({"split_E": np.array([0, 0, 5, 0])}, "'split' of row 2 is 5"),
    ({"item_E": np.array([0, 0, 1, 2])}, "rows 0 and 1 hold the same"),
    (
      {"user_ids": np.array(["a", "b", "c", "d"])},
      "user 'd' .* no interaction",
    ),
    ({"item_ids": np.array(["x", "x", "z"])}, "'item_ids' .* only 2 distinct"),
    ({"item_ids": np.array([b"x", b"y", b"z"])}, r"'item_ids' is \|S1 of"),
    ({"user_ids": np.array([[1], [2], [3]])}, r"'user_ids' .* \(3, 1\)"),
    ({"timestamp_E": np.arange(3)}, "'timestamp' has shape"),
    (
      {"timestamp_E": np.array([1, np.nan, 2, 3])},
      "'timestamp' of row 1 is .*nan",
    ),
    ({"timestamp_E": np.array(list("abcd"))}, "'timestamp' of row 0 is .*'a'"),
    ({"titles": np.array(["t"])}, "'titles' has shape"),
    ({"titles": ["t", None, "v"]}, "'titles' is object, .* give text only"),
    (
      {"features": {"text": np.array([[0.0], [np.nan], [1.0]])}},
      "'text' is nan at row 1, column 0",
    ),
    ({"features": {"text": np.eye(2)}}, "one row for each of the 3 items"),
    ({"features": {"text": np.zeros(3)}}, "feature 'text' has shape"),
    ({"features": {"text": np.eye(3) == 1}}, "feature 'text' is bool of shape"),
    ({"features": {"text": np.eye(3) * 1j}}, "feature 'text' is complex128 of"),
    (
      {"features": {"text": [[1], [2, 3], [4]]}},
      "'text' is no array .*equally",
    ),
    ({"features": {"text": np.eye(3).astype(object)}}, "'text' is object of"),
    ({"user_E": np.array([0, 0, 1, 2**32 - 1], "u4")}, "'user' of row 3 is 42"),
    ({"item_E": np.array([0, 1, 1, 2**32 + 2])}, "'item' of row 3 is 42"),
    ({"split_E": np.array([0, 0, 256, 0])}, "'split' of row 2 is 256"),
    ({"user_E": 5}, "'user' must hold 1 integers"),
    ({"user_E": np.array([], int)}, "there are no interactions"),
    ({"user_E": []}, "there are no interactions"),
  ],
)
def test_each_fault_is_named(changes, says):
  with pytest.raises(UserError, match=says):
    make(**changes)


def test_lists_become_arrays():
  expected = make(timestamp_E=np.arange(4), titles=np.array(["r", "s", "t"]))
  data = make(
    user_E=[0, 0, 1, 2],
    item_E=(0, 1, 1, 2),
    split_E=[0, 2, 0, 1],
    features={"text": np.eye(3).tolist()},
    user_ids=["ann", "bob", "eve"],
    item_ids=["x", "y", "z"],
    timestamp_E=[0, 1, 2, 3],
    titles=["r", "s", "t"],
  )
  for field in dataclasses.fields(Dataset):
    if field.name not in ("name", "features", "pictures"):
      found = getattr(data, field.name)
      assert found.dtype == getattr(expected, field.name).dtype
      assert np.array_equal(found, getattr(expected, field.name))
  assert np.array_equal(data.features["text"], expected.features["text"])
  assert data.statistics()["users"] == 3 and len(data.names) == 3


@pytest.mark.parametrize("dtype", ["u1", "u4", "u8", "i8"])
def test_any_kind_of_integers_gives_the_same(dtype):
  names = ("user_E", "item_E", "split_E")
  expected = make()
  data = make(**{name: getattr(expected, name).astype(dtype) for name in names})
  for name in names:
    assert getattr(data, name).dtype == getattr(expected, name).dtype
  found, rows = data.rows_newest_first(None), expected.rows_newest_first(None)
  assert found.items.tolist() == rows.items.tolist()
  assert found.offset.tolist() == rows.offset.tolist()


def test_fingerprint_sees_a_changed_feature(small_data):
  features = {m: f.copy() for m, f in small_data.features.items()}
  features["text"][3, 2] += 1
  other = dataclasses.replace(small_data, features=features)
  assert other.fingerprint != small_data.fingerprint


def test_fingerprint_sees_an_item_that_nobody_has_seen(small_data):
  bare = dataclasses.replace(small_data, features={}, titles=None)
  item_ids = np.array([*bare.item_ids, "one more"])
  other = dataclasses.replace(bare, item_ids=item_ids)
  assert other.fingerprint != bare.fingerprint


def test_fingerprint_sees_a_changed_timestamp(small_data):
  time = np.arange(len(small_data.user_E))
  a, b = (
    dataclasses.replace(small_data, timestamp_E=t) for t in (time, time[::-1])
  )
  assert len({small_data.fingerprint, a.fingerprint, b.fingerprint}) == 3


@pytest.mark.parametrize(
  ("time", "newest_first"),
  [
    (None, [3, 1, 0, 2]),  # stored later counts as later
    ([5, 9, 7, 7], [1, 3, 0, 2]),  # so it does among equals
  ],
)
def test_rows_newest_first(time, newest_first):
  data = make(
    user_E=np.array([1, 1, 2, 1, 0]),
    item_E=np.array([0, 1, 2, 3, 0]),
    split_E=np.array([0, 0, 0, 0, 1]),
    item_ids=np.arange(4),
    features={},
    timestamp_E=None if time is None else np.array([*time, 1], np.uint32),
  )
  rows = data.rows_newest_first(0)
  assert rows.offset.tolist() == [0, 0, 3, 4]
  assert rows.items.tolist() == newest_first


def test_rows_group_by_user_with_items_ascending():
  rows = make(item_E=np.array([2, 0, 1, 2]), split_E=np.zeros(4, int)).rows(0)
  assert rows.offset.tolist() == [0, 2, 3, 4]
  assert rows.items.tolist() == [0, 2, 1, 2]
