"""A run's folder: which settings and data it belongs to, what is done."""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mmgrec_jax import config as configs
from mmgrec_jax import hosts
from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.errors import UserError
from mmgrec_jax.files import read_json, write_text

# What a run that was extended has in the place of results.json.
EXTENDED = "extended.json"


class Workdir:
  """Pins one configuration and one data set to a folder.

  Attributes:
    tensorboard: whether epochs are written for TensorBoard as well.
    rehearse: takes the place of training in a dry run, else None.

  Raises:
    UserError: the folder belongs to other settings or other data, or to a run
      that was extended.
  """

  def __init__(
    self,
    path: str | Path,
    config: configs.Config,
    data: Dataset,
    tensorboard: bool = False,
    rehearse: Callable[..., Any] | None = None,
  ):
    self.path = Path(path)
    self.tensorboard, self.rehearse = tensorboard, rehearse
    if (self.path / EXTENDED).is_file():
      # It may have been trained on what is this data's test split.
      raise UserError(
        f"{self.path} holds a run that was extended to this data, not one that"
        " was trained on it; give another --workdir."
      )
    try:
      (self.path / "embed").mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise UserError(
        f"{self.path}: cannot be written ({error.strerror}); give another"
        " folder with --workdir."
      ) from error
    self._pins = {
      "config.json": json.loads(configs.to_json(config)),
      "dataset.json": {"fingerprint": data.fingerprint},
    }
    self._pin()

  def _pin(self) -> None:
    for name, now in self._pins.items():
      there = self.read_json(name)
      if there is None:
        self.write_json(name, now)
        continue
      changes = configs.differences(there, now)
      if changes:
        raise UserError(
          f"{self.path} holds a run with other"
          f" {'settings' if name == 'config.json' else 'data'}:"
          f" {'; '.join(changes)}. Give another --workdir, or delete this one."
        )

  @contextlib.contextmanager
  def held(self) -> Iterator[None]:
    """Keeps other runs out until it ends, however it ends.

    Raises:
      UserError: another run holds the folder, or not all processes see the
        same one; every process has it.
    """
    with contextlib.ExitStack() as stack:
      token = hosts.firsts(np.frombuffer(os.urandom(16), np.uint8))
      free = not hosts.is_first() or self._lock(stack, token)
      if not hosts.firsts(free):
        raise UserError(
          f"{self.path}: another run is at work here; wait for it, or give"
          " another folder with --workdir."
        )
      sees = hosts.in_time(lambda: self._has(token))
      sees_P = hosts.of_all(np.array([sees]))
      if not sees_P.all():
        raise UserError(
          f"{self.path}: process {sees_P.argmin()} has another folder of that"
          " name than process 0; give a --workdir on storage that all share."
        )
      self._pin()  # another run may have begun in the same moment
      yield

  def _lock(self, stack: contextlib.ExitStack, token: np.ndarray) -> bool:
    """Whether the folder is this run's now; if so, its token is in it."""
    file = stack.enter_context((self.path / "lock").open("ab"))
    try:
      # The kernel lets go of it when the process dies.
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      return False
    file.truncate(0)
    file.write(token.tobytes())
    file.flush()
    os.fsync(file.fileno())
    return True

  def _has(self, token: np.ndarray) -> bool:
    """Whether the first process's token is in the folder of this one."""
    with contextlib.suppress(OSError):
      return (self.path / "lock").read_bytes() == token.tobytes()
    return False

  def read_json(self, name: str, form: Any = None) -> dict | None:
    """A file, of a form as of `files.misfit`; None: it is not there."""
    file = self.path / name
    if not file.is_file():
      return None
    return read_json(file, "delete the folder to start again", form)

  def write_json(self, name: str, value: dict) -> None:
    if hosts.is_first():
      write_text(self.path / name, json.dumps(value, indent=1))

  def note_seconds(self, stage: str, seconds: float) -> None:
    self.write_json("seconds.json", {**self.seconds(), stage: seconds})

  def seconds(self) -> dict[str, float]:
    """Seconds spent by stage, over all resumed parts of the run."""
    return self.read_json("seconds.json", {str: float}) or {}
