"""A stage run for a few steps: will it fit, how long will it take?"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from mmgrec_jax.training import parallel
from mmgrec_jax.training.loop import Schedule, Task


class Rehearsal(NamedTuple):
  """What a few steps tell.

  memory: bytes of each device, data and state included.
  compiling: seconds until the first step and validation were done.
  step, planning, validation: seconds of one, compiled; planning is what an
    epoch takes beside its steps.
  steps, epochs, validations: of the whole stage, without an early stop.
  """

  stage: str
  memory: int
  compiling: float
  step: float
  steps: int
  planning: float
  epochs: int
  validation: float
  validations: int

  @property
  def seconds(self) -> float:
    """What the whole stage takes, about and at most."""
    return (
      self.compiling
      + self.steps * self.step
      + self.epochs * self.planning
      + self.validations * self.validation
    )


def rehearse(
  task: Task, schedule: Schedule, key: jax.Array
) -> tuple[Any, Rehearsal]:
  """Calls of one step and of a second's worth of steps, and validations.

  Returns:
    the parameters after them (host), and what was measured.

  Raises:
    UserError: the devices' memory is too small; it says what is needed.
  """
  with parallel.enough_memory(task.name):
    state = parallel.replicate(jax.device_get(task.init()))
    data = parallel.replicate(task.data)
    run = parallel.run_steps(task.step, task.plan, task.steps_per_epoch)
    memory = parallel.memory(run, state, data, key, 1)

  def steps(n: int) -> None:
    nonlocal state
    state, _ = jax.block_until_ready(run(state, data, key, n))

  needed = f"{task.name}, {memory / 2**20:,.0f} MiB of each device"
  with parallel.enough_memory(needed):
    compiling, one = _twice(lambda: steps(1))
    more = min(max(int(1 / one), 1), 20)
    _, several = _twice(lambda: steps(1 + more))
    step = max(several - one, 0.0) / more
    validation, validations = 0.0, 0
    if task.validate is not None:
      validations = -(-schedule.epochs // schedule.eval_every)
      first, validation = _twice(lambda: task.score(state.params))
      compiling += first
    params = parallel.unreplicate(state.params)
  return params, Rehearsal(
    task.name,
    memory,
    compiling,
    step,
    schedule.epochs * task.steps_per_epoch,
    max(one - step, 0.0),
    schedule.epochs,
    validation,
    validations,
  )


def _twice(call: Callable[[], Any]) -> tuple[float, float]:
  """Seconds of the first call, which compiles, and of the second."""
  times = [time.monotonic()]
  for _ in range(2):
    call()
    times.append(time.monotonic())
  return times[1] - times[0], times[2] - times[1]
