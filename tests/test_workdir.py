import dataclasses
import errno
import os
from pathlib import Path

import numpy as np
import pytest

from mmgrec_jax.config import default_config
from mmgrec_jax.errors import UserError
from mmgrec_jax.workdir import Workdir


def test_a_workdir_belongs_to_one_configuration(tmp_path, small_data):
  config = default_config()
  Workdir(tmp_path, config, small_data)
  Workdir(tmp_path, config, small_data)
  config.generator.epochs = 7
  with pytest.raises(UserError, match="config.generator.epochs: 30 there, 7"):
    Workdir(tmp_path, config, small_data)


def test_a_workdir_belongs_to_one_data_set(tmp_path, small_data):
  Workdir(tmp_path, default_config(), small_data)
  split = np.roll(small_data.split_E, 1)
  other = dataclasses.replace(small_data, split_E=split)
  with pytest.raises(UserError, match="with other data"):
    Workdir(tmp_path, default_config(), other)


def test_a_read_only_place_is_named(tmp_path, small_data, monkeypatch):
  def refuse(*_, **__):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))

  monkeypatch.setattr(Path, "mkdir", refuse)
  with pytest.raises(
    UserError, match="cannot be written .Read-only file system.; give another"
  ):
    Workdir(tmp_path / "run", default_config(), small_data)


def test_a_damaged_file_is_named(tmp_path, small_data):
  Workdir(tmp_path, default_config(), small_data)
  (tmp_path / "config.json").write_text('{"seed": ')
  with pytest.raises(UserError, match="config.json: damaged"):
    Workdir(tmp_path, default_config(), small_data)


def test_seconds_add_up_by_stage(tmp_path, small_data):
  folder = Workdir(tmp_path, default_config(), small_data)
  folder.note_seconds("embed", 1.5)
  folder.note_seconds("generate", 2.0)
  assert folder.seconds() == {"embed": 1.5, "generate": 2.0}


def test_a_second_run_in_one_workdir_is_refused(tmp_path, small_data):
  folder = Workdir(tmp_path, default_config(), small_data)
  with (
    folder.held(),
    pytest.raises(UserError, match="another run is at work here"),
    Workdir(tmp_path, default_config(), small_data).held(),
  ):
    pass
  with folder.held():
    pass


def test_a_run_goes_on_with_its_data_elsewhere(tmp_path, small_data):
  config = default_config()
  Workdir(tmp_path, config, small_data)
  config.data, config.train.checkpoint_seconds = "moved/here", 5
  Workdir(tmp_path, config, small_data)


def test_of_two_runs_that_begin_in_one_moment_one_is_refused(
  tmp_path, small_data
):
  config = default_config()
  first = Workdir(tmp_path, config, small_data)
  (tmp_path / "config.json").unlink()  # as the other still saw it
  config.seed = 7
  Workdir(tmp_path, config, small_data)
  with (
    pytest.raises(UserError, match="config.seed: 7 there, 0 now"),
    first.held(),
  ):
    pass
