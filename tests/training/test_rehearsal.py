import jax
import jax.numpy as jnp
import pytest

from mmgrec_jax.errors import UserError
from mmgrec_jax.report.tables import rehearsal_line, rehearsal_total
from mmgrec_jax.training import parallel
from mmgrec_jax.training.checkpoint import Checkpoints
from mmgrec_jax.training.loop import Schedule, fit
from mmgrec_jax.training.rehearsal import Rehearsal, rehearse
from mmgrec_jax.training.writer import Writer

ONCE = Schedule(epochs=1, patience=1)

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


def test_a_lack_of_memory_says_what_is_needed(make_generator_task, monkeypatch):
  too_much = lambda params: jnp.zeros(1 << 46)
  monkeypatch.setattr(parallel, "unreplicate", too_much)
  with pytest.raises(
    UserError, match=r"generate, [\d,]+ MiB of each .*memory.*smaller batch"
  ):
    rehearse(make_generator_task(), ONCE, jax.random.key(0))


def test_a_lack_of_memory_in_validation_says_so(make_generator_task, tmp_path):
  task = make_generator_task(lambda params: float(jnp.zeros(1 << 46)[0]))
  fewer_users = pytest.raises(
    UserError, match=r"generate, validation: .*memory.*evaluation.batch_size="
  )
  with fewer_users:
    rehearse(task, ONCE, jax.random.key(0))
  with fewer_users:
    fit(
      task,
      ONCE,
      Checkpoints(tmp_path / "checkpoints"),
      Writer(tmp_path / "metrics.jsonl"),
      jax.random.key(0),
    )
