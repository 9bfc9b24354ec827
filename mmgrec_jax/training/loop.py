"""The one training loop: epochs, validation, early stop, resume, progress."""

import dataclasses
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from mmgrec_jax.training import parallel
from mmgrec_jax.training.checkpoint import Checkpoints
from mmgrec_jax.training.state import TrainState
from mmgrec_jax.training.writer import Writer


@dataclasses.dataclass(frozen=True)
class Task:
  """What the loop trains, as plain functions.

  Attributes:
    name: of the stage, in reports.
    data: pytree of arrays that every step reads.
    init: () -> state.
    plan: (data, key) -> what one epoch's steps share (its shuffles).
    step: (state, data, planned, key, *, axis_name) -> state, metrics. Pure.
    validate: params -> score, higher is better.
    steps_per_epoch, samples_per_epoch: of training.
  """

  name: str
  data: Any
  init: Callable[[], TrainState]
  plan: Callable
  step: Callable
  validate: Callable[[Any], float]
  steps_per_epoch: int
  samples_per_epoch: int


@dataclasses.dataclass(frozen=True)
class Schedule:
  """How long to train and when to look.

  epochs: at most.  patience: epochs without a better score.  eval_every:
  epochs.  steps_per_call: steps compiled into one call at most.
  checkpoint_seconds: between saves.
  """

  epochs: int
  patience: int
  eval_every: int = 1
  steps_per_call: int = 1000
  checkpoint_seconds: float = 60.0

  @classmethod
  def of(cls, stage, train) -> "Schedule":
    """From a stage's block of the config and `config.train`."""
    return cls(
      stage.epochs,
      stage.patience,
      stage.eval_every,
      train.steps_per_call,
      train.checkpoint_seconds,
    )


@dataclasses.dataclass
class Progress:
  """Where a run is; saved with every checkpoint."""

  best_score: float = -np.inf
  best_epoch: int = -1
  seconds: float = 0.0

  def to_tree(self) -> dict:
    return {k: np.float64(v) for k, v in dataclasses.asdict(self).items()}

  @classmethod
  def from_tree(cls, tree: dict) -> "Progress":
    return cls(
      float(tree["best_score"]), int(tree["best_epoch"]), float(tree["seconds"])
    )


class NonFiniteLoss(RuntimeError):
  """Training diverged."""


class Interrupted(RuntimeError):
  """SIGTERM or SIGINT arrived; the state was saved."""


class _Signals:
  """Notes SIGTERM and SIGINT instead of dying in the middle of a step."""

  def __enter__(self):
    self.received = None
    self._old = {}
    for number in (signal.SIGTERM, signal.SIGINT):
      try:
        self._old[number] = signal.signal(number, self._note)
      except ValueError:  # not the main thread
        pass
    return self

  def _note(self, number, _):
    self.received = number

  def __exit__(self, *_):
    for number, handler in self._old.items():
      signal.signal(number, handler)


def _means(task: Task, first_step: int, metrics: Any) -> dict[str, np.ndarray]:
  """Host copies of a call's metrics; stops at the first bad loss."""
  metrics = parallel.unreplicate(metrics)
  bad = np.flatnonzero(~np.isfinite(metrics["loss"]))
  if len(bad):
    raise NonFiniteLoss(
      f"{task.name}: the loss is {metrics['loss'][bad[0]]} at step"
      f" {first_step + bad[0] + 1}"
    )
  return metrics


def fit(
  task: Task,
  schedule: Schedule,
  checkpoints: Checkpoints,
  writer: Writer,
  key: jax.Array,
) -> tuple[Any, Progress]:
  """Trains until the score stops rising; goes on from a checkpoint.

  Everything random is derived from `key` and the step, so an interrupted and
  continued run equals an uninterrupted one (to the bit, on one device).

  Returns:
    the best parameters (host) and where they were reached.

  Raises:
    NonFiniteLoss: naming the step and the last good checkpoint.
    Interrupted: after saving, when the process is asked to end.
  """
  state = jax.device_get(task.init())
  best = state.params
  progress = Progress()
  found = checkpoints.latest(
    {"state": state, "progress": progress.to_tree()}, best
  )
  if found is not None:
    last, best = found
    state, progress = last["state"], Progress.from_tree(last["progress"])
  per_epoch = task.steps_per_epoch
  step = int(state.step)
  writer.rewind(task.name, step // per_epoch)
  run = parallel.run_steps(task.step, task.plan, per_epoch)
  state, data = parallel.replicate(state), parallel.replicate(task.data)
  started = saved = time.monotonic()
  before = progress.seconds

  def save():
    progress.seconds = before + time.monotonic() - started
    last = {
      "state": parallel.unreplicate(state), "progress": progress.to_tree()
    }
    checkpoints.save(step, last, best)

  bar = tqdm(
    total=schedule.epochs * per_epoch,
    initial=step,
    desc=task.name,
    unit="step",
    file=sys.stdout,
    mininterval=1.0 if sys.stdout.isatty() else 20.0,
    dynamic_ncols=True,
  )
  with bar, _Signals() as signals:
    while step < schedule.epochs * per_epoch:
      epoch, epoch_started = step // per_epoch, time.monotonic()
      if progress.best_epoch >= 0 and (
        epoch - 1 - progress.best_epoch >= schedule.patience
      ):
        break
      collected, pending = [], None
      while step < (epoch + 1) * per_epoch:
        n = min(schedule.steps_per_call, (epoch + 1) * per_epoch - step)
        state, metrics = run(state, data, key, n)
        # Fetched one call late: the device never waits for the host.
        if pending is not None:
          collected.append(_fetch(task, pending, checkpoints))
        pending = (step, metrics)
        step += n
        bar.update(n)
        due = time.monotonic() - saved > schedule.checkpoint_seconds
        inside = step < (epoch + 1) * per_epoch
        if inside and (due or signals.received):
          collected.append(_fetch(task, pending, checkpoints))
          pending = None
          save()
          saved = time.monotonic()
        if inside and signals.received:
          _stop(task, checkpoints, signals.received)
      if pending is not None:
        collected.append(_fetch(task, pending, checkpoints))
      means = {
        name: float(np.concatenate([c[name] for c in collected]).mean())
        for name in collected[0]
      }
      took = time.monotonic() - epoch_started
      line = {**means, "seconds": took}
      line["samples_per_second"] = task.samples_per_epoch / took
      final = epoch + 1 == schedule.epochs
      if (epoch + 1) % schedule.eval_every == 0 or final:
        line["valid"] = task.validate(state.params)
        if line["valid"] > progress.best_score:
          progress.best_score, progress.best_epoch = line["valid"], epoch
          best = parallel.unreplicate(state.params)
      writer.write(task.name, epoch, line)
      bar.set_postfix_str(
        f"epoch {epoch + 1}, loss {means['loss']:.4f}, valid"
        f" {line.get('valid', progress.best_score):.4f} (best"
        f" {progress.best_score:.4f}),"
        f" {line['samples_per_second']:,.0f} samples/s",
        refresh=False,
      )
      due = time.monotonic() - saved > schedule.checkpoint_seconds
      if due or signals.received:
        save()
        saved = time.monotonic()
      if signals.received:
        _stop(task, checkpoints, signals.received)
  save()
  checkpoints.close()
  return best, progress


def _fetch(task, pending, checkpoints):
  first_step, metrics = pending
  try:
    return _means(task, first_step, metrics)
  except NonFiniteLoss as error:
    checkpoints.close()
    raise NonFiniteLoss(
      f"{error}; the last good checkpoint is in {checkpoints.folder}. Lower"
      " the learning rate, or raise clip's strength, and start a new workdir."
    ) from None


def _stop(task, checkpoints, number):
  checkpoints.close()
  raise Interrupted(
    f"{task.name}: stopped by {signal.Signals(number).name}, state saved in"
    f" {checkpoints.folder}; the same command goes on from there."
  )
