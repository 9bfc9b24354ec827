import itertools
import sys

import numpy as np
import pytest

from experiments.benchmarks import harness, report, scale
from experiments.benchmarks.harness import Contestant, Run
from mmgrec_jax.errors import UserError


@pytest.fixture
def run():
  return Run(small=True, one_thread=True)


def test_contestants_are_interleaved_and_take_turns_at_being_first(run):
  calls = []
  run.measure(
    "case",
    [Contestant(n, lambda n=n: calls.append(n)) for n in "ab"],
    ours="a",
  )
  turns = "".join(name for name, _ in itertools.groupby(calls))
  # First calls and warm-ups aabb, then ab ba ab ba ab.
  assert turns == "abababab"


def test_times_are_per_item_and_ratios_other_over_ours(run, monkeypatch):
  ms = {"ours": 16.0, "theirs": 0.5}

  def fake(work, calls):
    return work(), {"cpu_ms": ms[work()] * calls, "wall_ms": 1.0}

  monkeypatch.setattr(harness, "timed", fake)
  results = run.measure(
    "case",
    [
      Contestant("ours", lambda: "ours", items=64),
      Contestant("theirs", lambda: "theirs"),
    ],
    "ours",
  )
  assert results == {"ours": "ours", "theirs": "theirs"}
  assert run.times["case/ours"]["cpu_ms"] == [0.25] * 5
  assert run.times["case/theirs"]["cpu_ms"] == [0.5] * 5
  # ours: 1 call a repetition; theirs: 10, until 5 ms are full.
  assert run.times["case/ours"]["wall_ms"] == [1 / 64] * 5
  assert run.times["case/theirs"]["wall_ms"] == [0.1] * 5
  assert run.ratios == {"case/theirs": [2.0] * 5}


@pytest.mark.parametrize(
  "value, limits",
  [(2e-3, {"at_most": 1e-3}), (0.9, {"at_least": 1}), (np.nan, {"at_most": 1})],
)
def test_disagreement_is_an_error_that_names_it(value, limits, run):
  with pytest.raises(UserError, match="do not agree: scores is"):
    run.agree("scores", value, **limits)


def test_agreement_is_noted(run):
  run.agree("scores", np.float32(0.25), at_most=1)
  assert run.agreement == {"scores": 0.25}


def test_a_missing_rival_is_left_out_aloud(run, capsys):
  assert run.optional("no_such_module") is None
  assert run.left_out == ["no_such_module"]
  assert "pip install 'mmgrec-jax[bench]'" in capsys.readouterr().out
  assert run.optional("json") is not None


@pytest.mark.parametrize(
  "command", [lambda: harness.main("trie", lambda run: None), scale.main]
)
def test_a_folder_that_cannot_be_is_refused_before_anything_is_measured(
  command, tmp_path, monkeypatch
):
  taken = tmp_path / "taken"
  taken.write_text("a file")
  monkeypatch.setattr(sys, "argv", ["benchmark", f"--out={taken}"])
  measured = []
  monkeypatch.setattr(harness, "_pass", lambda *given: measured.append(given))
  monkeypatch.setattr(scale, "run_part", lambda *given: measured.append(given))
  with pytest.raises(SystemExit, match="taken: cannot be a folder"):
    command()
  assert not measured


def test_one_thread_is_the_headline_when_there_is_one():
  def one_pass(one_thread, cpu, wall):
    return {
      "one_thread": one_thread,
      "small": True,
      "times": {"case/ours": {"cpu_ms": cpu, "wall_ms": wall}},
      "ratios": {"case/theirs": [2.0, 1.0, 4.0]},
      "first_call_seconds": {},
      "agreement": {},
      "numbers": {"extra": 7},
      "left_out": [],
      "machine": {},
    }

  passes = {
    "one thread": one_pass(True, [3.0, 1.0, 2.0], [9.0]),
    "all cores": one_pass(False, [5.0], [8.0]),
  }
  merged = report.merge(passes)
  spread = {"min": 1.0, "median": 2.0, "max": 3.0}
  assert report.headline_times(merged) == {"case/ours": spread}
  assert merged["ratios"]["case/theirs"]["median"] == 2.0
  assert merged["extra"] == 7
  without = report.merge({"all cores": passes["all cores"]})
  assert report.headline_times(without)["case/ours"]["median"] == 8.0


def test_the_table_has_a_row_a_case_and_a_column_a_contestant():
  at = lambda median: {"min": median / 2, "median": median, "max": 2 * median}
  ms = lambda median: {"cpu_ms": at(median), "wall_ms": at(9.0)}
  times = {"K=1/ours": 1.25, "K=1/torch": 5.0, "K=2/ours": 4.0}
  times |= {"K=2/torch": 2.0, "K=2/loop": 280.0}
  times |= {"grows/big": 3.0, "grows/small": 1.5}
  ratios = {"K=1/torch": 4.0, "K=2/torch": 0.5, "K=2/loop": 70.0}
  machine = {"device": "cpu", "matmul_gflops": 99.6, "jax": "0.1"}
  text = report.to_markdown({
    "headline": "one thread",
    "clock": "cpu_ms",
    "times": {"one thread": {name: ms(t) for name, t in times.items()}},
    "ratios": {k: at(r) for k, r in [*ratios.items(), ("grows/big", 2.0)]},
    "machine": {"one thread": machine},
  })  # fmt: skip
  facts, *tables = text.rstrip().split("\n\n")
  assert facts.startswith("cpu, one thread, 100 GFLOP/s")
  assert "jax 0.1;" in facts
  rows = [
    [[cell.strip() for cell in line.split("|")[1:-1]] for line in t.split("\n")]
    for t in tables
  ]
  assert rows[0][0] == ["", "ours, CPU ms", "torch", "loop"]
  assert rows[0][2:] == [
    ["K=1", "1.25", "4 (2..8)", "–"],
    ["K=2", "4", "0.5 (0.25..1)", "70 (35..140)"],
  ]
  assert rows[1][0] == ["", "small, CPU ms", "big"]
  assert rows[1][2:] == [["grows", "1.5", "2 (1..4)"]]
