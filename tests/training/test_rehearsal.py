import jax
import jax.numpy as jnp
import pytest

from mmgrec_jax.errors import UserError
from mmgrec_jax.report.tables import rehearsal_line, rehearsal_total
from mmgrec_jax.training.loop import Schedule
from mmgrec_jax.training.rehearsal import Rehearsal, rehearse

MEASURED = Rehearsal(
  "generate", 3 * 2**20, compiling=5.0, step=0.1, steps=200, planning=0.5,
  epochs=10, validation=2.0, validations=5,
)  # fmt: skip


def test_the_whole_is_what_its_parts_take():
  assert MEASURED.seconds == pytest.approx(5 + 200 * 0.1 + 10 * 0.5 + 5 * 2)
  line = rehearsal_line(MEASURED)
  assert "3 MiB" in line and "200 steps of 100.0 ms" in line
  assert "5 validations of 2.0 s: at most 40 s" in line
  assert "at most 2 minutes" in rehearsal_total([MEASURED] * 3)
  assert "at most 2.0 hours" in rehearsal_total([MEASURED] * 180)
  assert "Nothing is trained" in rehearsal_total([])


def test_a_lack_of_memory_says_what_is_needed(make_generator_task):
  def validate(params):
    return float(jnp.zeros(1 << 46)[0])

  schedule = Schedule(epochs=1, patience=1)
  with pytest.raises(
    UserError, match=r"generate, \d+ MiB of each device: .*not enough memory"
  ):
    rehearse(make_generator_task(validate), schedule, jax.random.key(0))
