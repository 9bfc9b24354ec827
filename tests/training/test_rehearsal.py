import pytest

from mmgrec_jax.report.tables import rehearsal_line, rehearsal_total
from mmgrec_jax.training.rehearsal import Rehearsal

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
