import dataclasses

import numpy as np
import pytest

from mmgrec_jax.data import dataset
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
    ({"item_ids": np.array(["x", "x", "z"])}, "'item_ids' must be .* distinct"),
    ({"timestamp_E": np.arange(3)}, "'timestamp' has shape"),
    (
      {"timestamp_E": np.array([1, np.nan, 2, 3])},
      "'timestamp' of row 1 is .*nan",
    ),
    ({"timestamp_E": np.array(list("abcd"))}, "'timestamp' of row 0 is .*'a'"),
    ({"titles": np.array(["t"])}, "'titles' has shape"),
    (
      {"features": {"text": np.array([[0.0], [np.nan], [1.0]])}},
      "'text' is nan at row 1, column 0",
    ),
    ({"features": {"text": np.eye(2)}}, "one row for each of the 3 items"),
    ({"features": {"text": np.zeros(3)}}, "feature 'text' has shape"),
    ({"user_E": np.array([], int)}, "there are no interactions"),
  ],
)
def test_each_fault_is_named(changes, says):
  with pytest.raises(UserError, match=says):
    make(**changes)


def test_save_and_load_keep_everything(tmp_path, small_data):
  timed = dataclasses.replace(
    small_data, timestamp_E=np.arange(len(small_data.user_E))
  )
  dataset.save_dataset(timed, tmp_path)
  back = dataset.load_dataset(tmp_path)
  for field in dataclasses.fields(Dataset):
    old, new = getattr(timed, field.name), getattr(back, field.name)
    if field.name == "features":
      assert old.keys() == new.keys()
      assert all(np.array_equal(old[m], new[m]) for m in old)
    else:
      assert np.array_equal(old, new), field.name
  assert back.fingerprint == timed.fingerprint


def test_ids_default_to_row_numbers(tmp_path, small_data):
  dataset.save_dataset(small_data, tmp_path)
  for name in ("user_ids", "item_ids", "titles"):
    (tmp_path / f"{name}.npy").unlink()
  back = dataset.load_dataset(tmp_path)
  assert back.item_ids.tolist() == list(range(small_data.n_items))


def test_fingerprint_sees_a_changed_feature(small_data):
  features = {m: f.copy() for m, f in small_data.features.items()}
  features["text"][3, 2] += 1
  other = dataclasses.replace(small_data, features=features)
  assert other.fingerprint != small_data.fingerprint


def test_pickled_objects_are_refused(tmp_path, small_data):
  dataset.save_dataset(small_data, tmp_path)
  objects = np.array([{"a": 1}, None], dtype=object)
  np.save(tmp_path / "feat_text.npy", objects, allow_pickle=True)
  with pytest.raises(UserError, match=r"feat_text\.npy: not a readable"):
    dataset.load_dataset(tmp_path)


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path, small_data):
  (tmp_path / "notes.txt").write_text("mine")
  with pytest.raises(UserError, match="there is something already"):
    dataset.save_dataset(small_data, tmp_path)
  assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_write_that_fails_leaves_nothing(tmp_path, small_data, monkeypatch):
  def full(*_, **__):
    raise OSError("no space left")

  monkeypatch.setattr(np, "save", full)
  with pytest.raises(UserError, match="mine: cannot be written .no space"):
    dataset.save_dataset(small_data, tmp_path / "mine")
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 40, 300])
def test_truncated_files_are_named(tmp_path, small_data, keep):
  dataset.save_dataset(small_data, tmp_path)
  for name in ("feat_text.npy", "interactions.npz"):
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:keep])
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
      dataset.load_dataset(tmp_path)
    (tmp_path / name).write_bytes(whole)


def test_missing_column_is_named(tmp_path):
  np.savez(tmp_path / "interactions.npz", user=[0], item=[0])
  with pytest.raises(UserError, match="column 'split' is missing"):
    dataset.load_dataset(tmp_path)


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
