import dataclasses
import errno
import json
import os
import signal
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from mmgrec_jax.training import loop, parallel, signals
from mmgrec_jax.training.checkpoint import Checkpoints, SaveFailed
from mmgrec_jax.training.loop import Schedule, fit
from mmgrec_jax.training.writer import Writer

pytestmark = pytest.mark.usefixtures("optimised")


class Killed(Exception):
  pass


def run(task, folder, epochs=3, **schedule):
  return fit(
    task,
    Schedule(**{"epochs": epochs, "patience": 10, **schedule}),
    Checkpoints(folder / "checkpoints"),
    Writer(folder / "metrics.jsonl"),
    jax.random.key(7),
  )


def lines(folder):
  text = (folder / "metrics.jsonl").read_text()
  return [json.loads(line) for line in text.splitlines()]


def norm(params) -> float:
  """A score that depends on the parameters alone."""
  return float(sum(np.abs(a[0]).sum() for a in jax.tree.leaves(params)))


def final_state(task, folder):
  state = jax.device_get(task.init())
  last = {"state": state, "progress": loop.Progress().to_tree()}
  found = Checkpoints(folder / "checkpoints").latest(last, state.params)
  assert found is not None
  return found[0]["state"]


def assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
  ("saves", "days", "rule"),
  [
    (1, 0, "adamw"),
    (2, 0, "adamw"),
    (5, 0, "adamw"),
    (2, -3, "adamw"),
    (2, 400, "adamw"),
    (2, 0, "muon"),
  ],
)
def test_kill_and_resume_is_bit_equal(
  saves, days, rule, make_generator_task, tmp_path, one_device, monkeypatch
):
  """Calls of 3 and 1 steps; a save after each; death after some saves; then the
  clock has jumped by some days."""
  options = {"steps_per_call": 3, "checkpoint_seconds": 0.0}
  whole = make_generator_task(norm, dropout=0.1, name=rule)
  assert whole.steps_per_epoch == 4
  best, _ = run(whole, tmp_path / "whole", **options)

  done = []
  save = loop._Session.save

  def save_then_die(self):
    save(self)
    done.append(self.step)
    if len(done) == saves:
      self.checkpoints.close()
      raise Killed

  broken = tmp_path / "broken"
  broken.mkdir()
  with monkeypatch.context() as patch, pytest.raises(Killed):
    patch.setattr(loop._Session, "save", save_then_die)
    run(make_generator_task(norm, dropout=0.1, name=rule), broken, **options)
  assert done[-1] == {1: 3, 2: 4, 5: 11}[saves]  # inside, border, inside
  now = time.time
  monkeypatch.setattr(time, "time", lambda: now() + 86400 * days)
  validated = []

  def counted(params):
    validated.append(1)
    return norm(params)

  task = make_generator_task(counted, dropout=0.1, name=rule)
  again, _ = run(task, broken, **options)
  # It went on: epochs that were validated before the kill are not again.
  assert len(validated) == {1: 3, 2: 2, 5: 1}[saves]
  assert_equal(
    final_state(whole, tmp_path / "whole"), final_state(task, broken)
  )
  assert_equal(best, again)
  assert [x["epoch"] for x in lines(broken)] == [0, 1, 2]


def test_a_finished_run_is_not_trained_again(make_generator_task, tmp_path):
  best, _ = run(make_generator_task(norm), tmp_path)
  again, progress = run(make_generator_task(norm), tmp_path)
  assert_equal(best, again)
  assert progress.best_epoch >= 0


def test_early_stop_returns_the_best_epoch(make_generator_task, tmp_path):
  scores = [0.1, 0.5, 0.2, 0.4, 0.5, 0.9]
  seen = []

  def validate(params):
    seen.append(jax.device_get(jax.tree.map(lambda a: a[0], params)))
    return scores[len(seen) - 1]

  best, progress = run(
    make_generator_task(validate), tmp_path, epochs=6, patience=3
  )
  assert len(seen) == 5
  assert (progress.best_epoch, progress.best_score) == (1, 0.5)
  assert_equal(best, seen[1])


def test_another_look_comes_before_patience_ends(make_generator_task, tmp_path):
  scores = iter([0.1, 0.5, 0.4, 0.9])
  task = make_generator_task(lambda params: next(scores))
  _, progress = run(task, tmp_path, epochs=20, patience=1, eval_every=3)
  assert (progress.best_epoch, progress.best_score) == (5, 0.5)
  assert lines(tmp_path)[-1]["epoch"] == 8


def test_without_a_score_the_last_parameters_are_the_result(
  make_generator_task, tmp_path, capsys
):
  task = make_generator_task(None)
  best, progress = run(task, tmp_path, patience=1)
  shown = capsys.readouterr().out
  assert "epoch 3, loss" in shown and "valid" not in shown
  assert_equal(best, final_state(task, tmp_path).params)
  assert progress.best_epoch == -1
  assert ["valid" in line for line in lines(tmp_path)] == [False] * 3
  again, _ = run(make_generator_task(None), tmp_path, patience=1)
  assert_equal(best, again)


def test_metrics_file_has_a_line_an_epoch(make_generator_task, tmp_path):
  run(make_generator_task(norm), tmp_path, eval_every=2)
  found = lines(tmp_path)
  assert [line["epoch"] for line in found] == [0, 1, 2]
  assert ["valid" in line for line in found] == [False, True, True]
  assert {"loss", "level_1", "seconds", "samples_per_second"} <= found[0].keys()


@pytest.mark.parametrize(
  ("what", "at", "message"),
  [
    ("loss", 6, "the loss is nan at step 6; .* checkpoint"),
    # The last step before a save: no loss was computed with it yet.
    ("params", 8, "the state is not finite at step 8; .* checkpoint"),
  ],
)
def test_what_is_not_finite_is_named_and_the_last_good_stays(
  what, at, message, make_generator_task, tmp_path
):
  task = make_generator_task(lambda params: 0.0)
  step = task.step

  def poisoned(state, *args, **options):
    state, metrics = step(state, *args, **options)
    bad = jax.numpy.where(state.step == at, np.float32("nan"), 0)
    if what == "loss":
      return state, {**metrics, "loss": metrics["loss"] + bad}
    params = jax.tree.map(lambda a: a + bad, state.params)
    return state.replace(params=params), metrics

  task = dataclasses.replace(task, step=poisoned)
  with pytest.raises(loop.Diverged, match=message):
    run(task, tmp_path, checkpoint_seconds=0.0)
  good = final_state(task, tmp_path)
  assert int(good.step) == 4
  assert all(np.isfinite(a).all() for a in jax.tree.leaves(good.params))


def test_sigterm_saves_and_the_same_command_goes_on(
  make_generator_task, tmp_path, one_device
):
  calls = []

  def validate(params):
    calls.append(1)
    if len(calls) == 2:
      os.kill(os.getpid(), signal.SIGTERM)
    return float(len(calls))

  folder = tmp_path / "stopped"
  folder.mkdir()
  with pytest.raises(signals.Interrupted, match="SIGTERM at step 8") as error:
    run(make_generator_task(validate), folder)
  assert error.value.signal == signal.SIGTERM
  task = make_generator_task(validate)
  run(task, folder)
  assert len(calls) == 3
  whole = make_generator_task()
  run(whole, tmp_path / "whole")
  assert_equal(
    final_state(whole, tmp_path / "whole"), final_state(task, folder)
  )


def test_slow_steps_make_short_calls_and_a_signal_waits_for_one_alone(
  make_generator_task, tmp_path, one_device, monkeypatch
):
  whole = make_generator_task()
  run(whole, tmp_path / "whole")
  monkeypatch.setattr(loop, "FIRST_CALL", 1)
  monkeypatch.setattr(loop, "CALL_SECONDS", 0.0)
  fetch, calls = loop._Session._fetch, []

  def signalled(self, first_step, n, metrics):
    calls.append(n)
    if len(calls) == 6:
      os.kill(os.getpid(), signal.SIGTERM)
    return fetch(self, first_step, n, metrics)

  monkeypatch.setattr(loop._Session, "_fetch", signalled)
  folder = tmp_path / "stopped"
  folder.mkdir()
  # A call is looked at while the next one runs: the 6th of 4 steps an epoch.
  with pytest.raises(signals.Interrupted, match="SIGTERM at step 7"):
    run(make_generator_task(), folder)
  assert set(calls) == {1}
  task = make_generator_task()
  run(task, folder)
  assert_equal(
    final_state(whole, tmp_path / "whole"), final_state(task, folder)
  )


def test_the_log_has_the_mean_over_steps_however_they_were_called(
  make_generator_task, tmp_path, monkeypatch
):
  run(make_generator_task(), tmp_path, epochs=1, steps_per_call=4)
  (whole,) = lines(tmp_path)
  monkeypatch.setattr(loop, "FIRST_CALL", 1)  # so calls of 1, 1 and 2 steps
  folder = tmp_path / "parts"
  folder.mkdir()
  run(make_generator_task(), folder, epochs=1)
  assert lines(folder)[0]["loss"] == pytest.approx(whole["loss"], rel=1e-6)


def test_a_disk_that_fills_up_loses_nothing(
  make_generator_task, tmp_path, one_device, monkeypatch
):
  whole = make_generator_task(norm)
  run(whole, tmp_path / "whole")
  save, saved = ocp.CheckpointManager.save, []

  def full(self, step, *args, **options):
    if len(saved) == 2:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    saved.append(step)
    return save(self, step, *args, **options)

  folder = tmp_path / "full"
  folder.mkdir()
  with monkeypatch.context() as patch:
    patch.setattr(ocp.CheckpointManager, "save", full)
    with pytest.raises(SaveFailed, match="No space left.*the one before is wh"):
      run(make_generator_task(norm), folder, checkpoint_seconds=0.0)
  task = make_generator_task(norm)
  assert int(final_state(task, folder).step) == saved[-1] == 8
  run(task, folder)
  assert_equal(
    final_state(whole, tmp_path / "whole"), final_state(task, folder)
  )
  assert [x["epoch"] for x in lines(folder)] == [0, 1, 2]


def test_a_line_cut_short_by_a_kill_is_redone(tmp_path):
  writer = Writer(tmp_path / "metrics.jsonl")
  for epoch in range(3):
    writer.write("embed", epoch, {"loss": epoch})
  writer.write("other", 0, {"loss": 0})
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"stage": "emb')
  writer.rewind("embed", 2)
  assert [(x["stage"], x["epoch"]) for x in lines(tmp_path)] == [
    ("embed", 0),
    ("embed", 1),
    ("other", 0),
  ]


def test_memory_is_told_before_training_without_compiling_twice(
  make_generator_task, tmp_path, monkeypatch, capsys
):
  compiled, told = [], []
  jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: (
      compiled.append(event) if "backend_compile" in event else None
    )
  )
  print_memory = loop._Session.print_memory

  def note(self):
    before = len(compiled)
    print_memory(self)
    assert len(compiled) == before + 1 and self.step == 0
    run_steps = self.run

    def first_call(*args):
      before = len(compiled)
      out = run_steps(*args)
      told.append(len(compiled) - before)
      return out

    self.run = first_call

  monkeypatch.setattr(loop._Session, "print_memory", note)
  run(make_generator_task(), tmp_path, epochs=2)
  jax.monitoring.clear_event_listeners()
  assert told == [0, 0]
  assert "training takes" in capsys.readouterr().out


def test_memory_counts_what_is_donated_once(one_device):
  """1 MiB in, 1 MiB of results in its place, and not much more."""
  double = parallel.everywhere(lambda a: 2 * a, donate_argnums=0)
  a = parallel.replicate(np.ones(2**18, np.float32))
  assert 2**20 <= parallel.memory(double, a) < 1.1 * 2**20
  kept = parallel.everywhere(lambda a: 2 * a)
  assert 2 * 2**20 <= parallel.memory(kept, a) < 2.1 * 2**20
