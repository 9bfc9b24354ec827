"""Trains a stage into a workdir: its checkpoints, its log and its clock."""

from typing import Any

import jax

from mmgrec_jax.training import parallel
from mmgrec_jax.training.checkpoint import Checkpoints
from mmgrec_jax.training.loop import Schedule, Task, fit
from mmgrec_jax.training.writer import Writer
from mmgrec_jax.workdir import Workdir


def train(
  folder: Workdir,
  task: Task,
  schedule: Schedule,
  key: jax.Array,
  place: str = "",
) -> Any:
  """Trains, or goes on; returns the best parameters (host).

  Args:
    place: of the checkpoints in the workdir; default: the task's name.

  Raises:
    UserError: the devices' memory is too small.
  """
  if folder.rehearse is not None:
    return folder.rehearse(task, schedule, key)
  boards = folder.path / "tensorboard" if folder.tensorboard else None
  with parallel.enough_memory(task.name):
    best, progress = fit(
      task,
      schedule,
      Checkpoints(folder.path / (place or task.name)),
      Writer(folder.path / "metrics.jsonl", boards),
      key,
    )
  folder.note_seconds(task.name, progress.seconds)
  return best
