import shutil

import numpy as np
import pytest

from mmgrec_jax.errors import UserError
from mmgrec_jax.training.checkpoint import Checkpoints, SaveFailed

LIKE = {"w": np.zeros((40, 50), np.float32)}


def tree(value):
  return {"w": np.full((40, 50), value, np.float32)}


@pytest.fixture
def folder(tmp_path):
  """Two checkpoints, of steps 3 and 7."""
  checkpoints = Checkpoints(tmp_path / "saved")
  for step in (3, 7):
    checkpoints.save(step, tree(step), tree(-step))
  checkpoints.close()
  return tmp_path / "saved"


def damage(folder, step):
  """Cuts every file of data in half, as a bad disk or copy might."""
  files = [p for p in (folder / str(step)).rglob("d/*") if p.is_file()]
  assert files
  for file in files:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def test_the_newest_is_read(folder):
  last, best = Checkpoints(folder).latest(LIKE, LIKE)
  assert last["w"][0, 0] == 7 and best["w"][0, 0] == -7


def test_of_a_damaged_newest_the_one_before_is_used(folder, capsys):
  damage(folder, 7)
  checkpoints = Checkpoints(folder)
  last, best = checkpoints.latest(LIKE, LIKE)
  assert last["w"][0, 0] == 3 and best["w"][0, 0] == -3
  assert "the checkpoint of step 7 is damaged" in capsys.readouterr().out
  # The step is reached again, and can be saved again.
  checkpoints.save(7, tree(8), tree(8))
  checkpoints.close()
  assert Checkpoints(folder).best(LIKE)["w"][0, 0] == 8


def test_what_only_reads_deletes_nothing(folder):
  damage(folder, 7)
  Checkpoints(folder).best(LIKE)
  assert (folder / "7").is_dir()


def test_with_all_damaged_it_says_so_and_keeps_them(folder, capsys):
  damage(folder, 3)
  damage(folder, 7)
  with pytest.raises(UserError, match="no checkpoint can be read .*; if that"):
    Checkpoints(folder).latest(LIKE, LIKE)
  assert capsys.readouterr().out.count("is damaged") == 2
  assert (folder / "3").is_dir() and (folder / "7").is_dir()


def test_where_there_are_none_there_is_none(tmp_path):
  assert Checkpoints(tmp_path / "new").latest(LIKE, LIKE) is None


def test_no_flipped_bit_is_read_as_a_number(tmp_path, rng, capsys):
  """Of any file of the newest: right numbers, or the one before."""
  # Of numbers like these the format itself notices nothing.
  saved = {
    step: {"w": rng.normal(size=(40, 50)).astype(np.float32)} for step in (3, 7)
  }
  checkpoints = Checkpoints(tmp_path / "saved")
  for step, tree in saved.items():
    checkpoints.save(step, tree, tree)
  checkpoints.close()
  files = [p for p in (tmp_path / "saved" / "7").rglob("*") if p.stat().st_size]
  files = [p.relative_to(tmp_path / "saved") for p in files if p.is_file()]
  damaged = []
  for n in range(60):
    other = tmp_path / str(n)
    shutil.copytree(tmp_path / "saved", other)
    file = other / files[n % len(files)]
    content = bytearray(file.read_bytes())
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    file.write_bytes(content)
    found = Checkpoints(other).latest(LIKE, LIKE)
    damaged.append("is damaged" in capsys.readouterr().out)
    expected = saved[3 if damaged[-1] else 7]
    for tree in found:
      np.testing.assert_array_equal(tree["w"], expected["w"])
  assert 0 < sum(damaged) < len(damaged)


def test_a_save_that_fails_names_the_folder(folder, monkeypatch):
  checkpoints = Checkpoints(folder)

  def full(*_, **__):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(checkpoints._manager, "save", full)
  with pytest.raises(SaveFailed, match="saved: a checkpoint could not be .*No"):
    checkpoints.save(9, tree(9), tree(9))
  monkeypatch.undo()
  assert Checkpoints(folder).best(LIKE)["w"][0, 0] == -7
