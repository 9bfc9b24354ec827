"""The one training loop: epochs, validation, early stop, resume, progress."""

import dataclasses
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import numpy as np
from tqdm import tqdm

from mmgrec_jax import hosts
from mmgrec_jax.training import parallel
from mmgrec_jax.training.checkpoint import Checkpoints
from mmgrec_jax.training.signals import Interrupted, Signals
from mmgrec_jax.training.state import TrainState
from mmgrec_jax.training.writer import Writer

# A call at work answers no signal, and schedulers wait half a minute or less.
CALL_SECONDS = 5.0
# Steps of the first call, which tells how long one takes.
FIRST_CALL = 8


@dataclasses.dataclass(frozen=True)
class Task:
  """What the loop trains, as plain functions.

  Attributes:
    name: of the stage, in reports.
    data: pytree of arrays that every step reads.
    init: () -> state.
    plan: (data, key) -> what one epoch's steps share (its shuffles).
    step: (state, data, planned, key, *, axis_name) -> state, metrics. Pure.
    validate: params -> score, higher is better. None: there is no score, the
      last parameters are the best.
    steps_per_epoch, samples_per_epoch: of training.
  """

  name: str
  data: Any
  init: Callable[[], TrainState]
  plan: Callable
  step: Callable
  validate: Callable[[Any], float] | None
  steps_per_epoch: int
  samples_per_epoch: int

  def score(self, params: Any) -> float:
    """What `validate` finds.

    Raises:
      UserError: the devices' memory is too small for so many users at a time.
    """
    assert self.validate is not None
    with parallel.enough_memory(
      f"{self.name}, validation", parallel.FEWER_USERS
    ):
      return self.validate(params)


@dataclasses.dataclass(frozen=True)
class Schedule:
  """How long to train and when to look.

  epochs: at most.  patience: epochs without a better score, of which one at
  least was looked at.  eval_every: epochs.  steps_per_call: steps in one call
  at most; fewer where they would take more than CALL_SECONDS.
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


class Diverged(RuntimeError):
  """The loss or a parameter is no number any more."""


class _Session:
  """One `fit`: the state on the devices and everything that surrounds it."""

  def __init__(self, task, schedule, checkpoints, writer, key):
    self.task, self.schedule, self.key = task, schedule, key
    self.checkpoints, self.writer = checkpoints, writer
    state, self.best = self._resume(jax.device_get(task.init()))
    self.step = int(state.step)
    self.state = parallel.replicate(state)
    self.data = parallel.replicate(task.data)
    self.run = parallel.run_steps(task.step, task.plan, task.steps_per_epoch)
    self.before = self.progress.seconds
    self.score = np.nan
    self.started = self.saved = time.monotonic()
    self.signals, self.stop_by = Signals(), None
    self.longest_call, self.fetched = FIRST_CALL, self.started
    writer.rewind(task.name, self.epoch)
    self.bar = tqdm(
      total=schedule.epochs * task.steps_per_epoch,
      initial=self.step,
      desc=task.name,
      unit="step",
      file=sys.stdout,
      mininterval=0.5 if sys.stdout.isatty() else 20.0,
      dynamic_ncols=True,
    )

  def _resume(self, state: TrainState) -> tuple[TrainState, Any]:
    self.progress = Progress()
    found = self.checkpoints.latest(
      {"state": state, "progress": self.progress.to_tree()}, state.params
    )
    if found is None:
      # The first's: hosts of other kinds may round another way.
      state = hosts.firsts(state)
      return state, state.params
    last, best = found
    self.progress = Progress.from_tree(last["progress"])
    return last["state"], best

  @property
  def epoch(self) -> int:
    return self.step // self.task.steps_per_epoch

  def goes_on(self) -> bool:
    """Whether another epoch is due."""
    if self.epoch >= self.schedule.epochs:
      return False
    best = self.progress.best_epoch
    patience = max(self.schedule.patience, self.schedule.eval_every)
    return best < 0 or self.epoch - 1 - best < patience

  def next_steps(self) -> int:
    """Steps of the next call."""
    left = self.task.steps_per_epoch - self.step % self.task.steps_per_epoch
    return min(self.schedule.steps_per_call, self.longest_call, left)

  def print_memory(self) -> None:
    """Compiles the next call, which the first epoch then only runs."""
    bytes_ = parallel.memory(
      self.run, self.state, self.data, self.key, self.next_steps()
    )
    self.bar.write(
      f"{self.task.name}: training takes {bytes_ / 2**20:,.0f} MiB of each"
      " device at its peak, data and state included",
      file=sys.stdout,
    )

  def train_epoch(self) -> dict[str, float]:
    """The rest of this epoch. Returns its mean metrics and its speed."""
    began, first = time.monotonic(), self.step
    self.fetched = began
    end = (self.epoch + 1) * self.task.steps_per_epoch
    collected, pending = [], None
    while self.step < end:
      n = self.next_steps()
      self.state, metrics = self.run(self.state, self.data, self.key, n)
      # Fetched one call late: the device never waits for the host.
      if pending is not None:
        collected.append(self._fetch(*pending))
      pending = (self.step, n, metrics)
      self.step += n
      self.bar.update(n)
      if self.step < end and self.save_due():
        collected.append(self._fetch(*pending))
        pending = None
        self.save()
        self.fetched = time.monotonic()
    if pending is not None:
      collected.append(self._fetch(*pending))
    took = time.monotonic() - began
    share = (self.step - first) / self.task.steps_per_epoch
    return {
      **{
        k: float(np.concatenate([c[k] for c in collected]).mean())
        for k in collected[0]
      },
      "seconds": took,
      "samples_per_second": share * self.task.samples_per_epoch / took,
    }

  def _fetch(self, first_step: int, n: int, metrics) -> dict[str, np.ndarray]:
    """Host copies of one call's metrics; stops at a bad loss."""
    metrics = {k: a[:n] for k, a in parallel.unreplicate(metrics).items()}
    bad = np.flatnonzero(~np.isfinite(metrics["loss"]))
    if len(bad):
      loss, step = metrics["loss"][bad[0]], first_step + bad[0] + 1
      self._stop(f"the loss is {loss} at step {step}")
    now = time.monotonic()
    fitting = CALL_SECONDS * n / max(now - self.fetched, 1e-9)
    # All processes must make the same calls.
    slowest = hosts.of_all(np.array([min(fitting, 2**31 - 1)])).min()
    self.longest_call = max(1, int(slowest))
    self.fetched = now
    return metrics

  def _stop(self, what: str) -> NoReturn:
    self.checkpoints.close()
    raise Diverged(
      f"{self.task.name}: {what}; the last good checkpoint is in"
      f" {self.checkpoints.folder}. Start a new workdir with a lower"
      " learning_rate or clip."
    )

  def finish_epoch(self, line: dict[str, float]) -> None:
    """Validates the epoch just trained, logs it, saves when it is time."""
    epoch = self.epoch - 1
    last = epoch + 1 == self.schedule.epochs
    if self.task.validate is None:
      if last:
        self.best = parallel.unreplicate(self.state.params)
    elif (epoch + 1) % self.schedule.eval_every == 0 or last:
      line["valid"] = self.task.score(self.state.params)
      if line["valid"] > self.progress.best_score:
        self.progress.best_score = line["valid"]
        self.progress.best_epoch = epoch
        self.best = parallel.unreplicate(self.state.params)
    self.writer.write(self.task.name, epoch, line)
    self.score = line.get("valid", self.score)
    shown = [f"epoch {epoch + 1}", f"loss {line['loss']:.4f}"]
    if np.isfinite(self.score):
      best = self.progress.best_score
      shown += [f"valid {self.score:.4f}", f"best {best:.4f}"]
    shown.append(f"{line['samples_per_second']:,.0f} samples/s")
    self.bar.set_postfix_str(", ".join(shown), refresh=False)
    if self.save_due():
      self.save()

  def save_due(self) -> bool:
    """Whether any process thinks so; a signal to one of them ends all."""
    waited = time.monotonic() - self.saved > self.schedule.checkpoint_seconds
    say_1x2 = np.array([[waited, self.signals.received or 0]], np.int32)
    waited, number = hosts.of_all(say_1x2).max(axis=0).tolist()
    self.stop_by = number or None
    return bool(waited or number)

  def save(self) -> None:
    """Saves where the run is; if a signal asked for the end, ends it."""
    self.saved = time.monotonic()
    self.progress.seconds = self.before + self.saved - self.started
    last = {
      "state": parallel.unreplicate(self.state),
      "progress": self.progress.to_tree(),
    }
    if not all(np.isfinite(a).all() for a in jax.tree.leaves(last["state"])):
      self._stop(f"the state is not finite at step {self.step}")
    self.checkpoints.save(self.step, last, self.best)
    number = self.stop_by
    if number is not None:
      self.checkpoints.close()
      raise Interrupted(
        f"{self.task.name}: stopped by {signal.Signals(number).name} at step"
        f" {self.step}, state saved in {self.checkpoints.folder}; the same"
        " command goes on from there.",
        number,
      )


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
    Diverged: naming the step and the last good checkpoint.
    Interrupted: after saving, when a signal asks the process to end.
  """
  session = _Session(task, schedule, checkpoints, writer, key)
  with session.bar, session.signals:
    if session.goes_on():
      session.print_memory()
    while session.goes_on():
      session.finish_epoch(session.train_epoch())
    session.save_due()  # A signal may have come since.
    session.save()
  checkpoints.close()
  writer.close()
  return session.best, session.progress
