import dataclasses
import json

import numpy as np
import pytest

from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.data.folder import load_dataset, save_dataset
from mmgrec_jax.errors import UserError


def test_save_and_load_keep_everything(tmp_path, small_data):
  timed = dataclasses.replace(
    small_data, timestamp_E=np.arange(len(small_data.user_E))
  )
  save_dataset(timed, tmp_path)
  back = load_dataset(tmp_path)
  for field in dataclasses.fields(Dataset):
    old, new = getattr(timed, field.name), getattr(back, field.name)
    if field.name == "features":
      assert old.keys() == new.keys()
      assert all(np.array_equal(old[m], new[m]) for m in old)
    else:
      assert np.array_equal(old, new), field.name
  assert back.fingerprint == timed.fingerprint


def test_ids_default_to_row_numbers(tmp_path, small_data):
  save_dataset(small_data, tmp_path)
  for name in ("meta.json", "user_ids.npy", "item_ids.npy", "titles.npy"):
    (tmp_path / name).unlink()
  back = load_dataset(tmp_path)
  assert back.item_ids.tolist() == list(range(small_data.n_items))


@pytest.mark.parametrize("field", ["user", "item"])
def test_ids_in_the_place_of_row_numbers_are_refused(tmp_path, field):
  ids = {"user": [0, 1], "item": [0, 1], field: [7, 2**31 - 2]}
  np.savez(tmp_path / "interactions.npz", split=[0, 0], **ids)
  goes_up = f"'{field}' goes up to 2,147,483,646 in 2 interactions: these"
  with pytest.raises(UserError, match=goes_up):
    load_dataset(tmp_path)


def test_pickled_objects_are_refused(tmp_path, small_data):
  save_dataset(small_data, tmp_path)
  (tmp_path / "meta.json").unlink()
  objects = np.array([{"a": 1}, None], dtype=object)
  np.save(tmp_path / "feat_text.npy", objects, allow_pickle=True)
  with pytest.raises(UserError, match=r"feat_text\.npy: not a readable"):
    load_dataset(tmp_path)


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path, small_data):
  (tmp_path / "notes.txt").write_text("mine")
  with pytest.raises(UserError, match="there is something already"):
    save_dataset(small_data, tmp_path)
  assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_write_that_fails_leaves_nothing(tmp_path, small_data, monkeypatch):
  def full(*_, **__):
    raise OSError("no space left")

  monkeypatch.setattr(np, "save", full)
  with pytest.raises(UserError, match="mine: cannot be written .no space"):
    save_dataset(small_data, tmp_path / "mine")
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 40, 300])
def test_truncated_files_are_named(tmp_path, small_data, keep):
  save_dataset(small_data, tmp_path)
  (tmp_path / "meta.json").unlink()
  for name in ("feat_text.npy", "interactions.npz"):
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:keep])
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
      load_dataset(tmp_path)
    (tmp_path / name).write_bytes(whole)


def test_missing_column_is_named(tmp_path):
  np.savez(tmp_path / "interactions.npz", user=[0], item=[0])
  with pytest.raises(UserError, match="column 'split' is missing"):
    load_dataset(tmp_path)


def test_a_bit_that_turned_is_found_in_every_file(tmp_path, small_data):
  save_dataset(small_data, tmp_path)
  for file in sorted(tmp_path.glob("*.np?")):
    whole = file.read_bytes()
    changed = bytearray(whole)
    changed[-1] ^= 1
    file.write_bytes(changed)
    with pytest.raises(UserError, match=f"{file.name}: missing, damaged, "):
      load_dataset(tmp_path)
    file.write_bytes(whole)
  feature = tmp_path / "feat_late.npy"
  np.save(feature, np.ones((small_data.n_items, 2)))
  with pytest.raises(UserError, match="feat_late.npy: missing, .* added"):
    load_dataset(tmp_path)
  feature.unlink()
  meta = json.loads((tmp_path / "meta.json").read_text())
  for digests in ({}, meta["sha256"] | {"\0": ""}, {"x" * 999: ""}, [], None):
    stripped = {**meta, "sha256": digests}
    (tmp_path / "meta.json").write_text(json.dumps(stripped))
    if digests is None:  # a folder made by hand
      load_dataset(tmp_path)
      continue
    with pytest.raises(UserError, match="delete .*meta.json|or delete it"):
      load_dataset(tmp_path)
  (tmp_path / "meta.json").write_text('{"name":')
  with pytest.raises(UserError, match="meta.json: damaged"):
    load_dataset(tmp_path)
