import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import runs, spaces, sweep, sweep_report
from mmgrec_jax import config as configs
from mmgrec_jax.data.dataset import save_dataset

# Of ml_collections, when it reads a config file in this process.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")

ROOT = Path(__file__).parents[2]
FILE = str(ROOT / "configs" / "lfm2k.py")


def call(data, out, l2):
  return subprocess.run(
    [sys.executable, "-m", "experiments.sweep", f"--config={FILE}:lightgcn",
     f"--config.data={data}", "--config.width=8", "--config.model.epochs=3",
     "--set", f"model.l2={l2}", f"--out={out}"],
    cwd=ROOT, capture_output=True, text=True,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
  )  # fmt: skip


def read(out):
  return json.loads((out / "sweep.json").read_text())


def scores(out):
  """What a choice can depend on."""
  return [
    (trial["settings"], trial["valid"])
    for trial in read(out)["systems"]["lightgcn"]
  ]


def test_a_sweep_chooses_on_validation_whatever_the_test_items_are(
  small_data, other_test_items, tmp_path
):
  outs = []
  for name, data in (("a", small_data), ("b", other_test_items)):
    save_dataset(data, tmp_path / name)
    outs.append(tmp_path / f"{name}-out")
    done = call(tmp_path / name, outs[-1], "1e-4,30")
    assert done.returncode == 0, done.stderr
  first, second = outs
  assert scores(first) == scores(second)
  assert read(first)["dataset"] != read(second)["dataset"]  # fingerprint

  best, other = read(first)["systems"]["lightgcn"]
  assert best["valid"]["recall@10"] > other["valid"]["recall@10"]
  for trial in (best, other):
    results = json.loads((first / trial["folder"] / "results.json").read_text())
    assert "test" not in results
    assert results["valid"]["lightgcn"] == trial["valid"]
    config = json.loads((first / trial["folder"] / "config.json").read_text())
    assert config["model"]["l2"] == float(trial["settings"]["model.l2"])
  shown = (first / "sweep.md").read_text()
  assert f"--config.model.l2={best['settings']['model.l2']}" in shown
  assert "evaluation.splits" not in shown  # what is pasted does test
  assert (first / "sweep.png").stat().st_size > 1000

  # A larger sweep keeps what is there.
  done = call(tmp_path / "a", first, "1e-4,1,30")
  assert done.returncode == 0, done.stderr
  assert done.stdout.count(": finished before") == 2
  assert done.stdout.count(": done in") == 1
  assert (first / "sweep.md").read_text() in done.stdout
  assert [pair for pair in scores(first) if pair in scores(second)] == scores(
    second
  )


def plan(systems, out, settings=(), space=(), trials=None):
  return sweep.plan_trials(
    {s: runs.with_system(FILE, s) for s in systems},
    dict(settings), dict(space), trials, 0, out,
  )  # fmt: skip


def test_every_system_gets_the_same_number_of_trials_and_no_test(tmp_path):
  trials = plan(["mf", "lattice", "mmgrec"], tmp_path, trials=3)
  assert [t.run.system for t in trials] == (
    ["mf"] * 3 + ["lattice"] * 3 + ["mmgrec"] * 3
  )
  assert len({t.run.folder for t in trials}) == 9
  for trial in trials:
    assert set(trial.chosen) == set(spaces.SPACES[trial.run.system])
    assert "--config.evaluation.splits=valid" in trial.run.command


def test_each_given_setting_goes_to_the_systems_that_have_it(tmp_path):
  mf, mmgrec = plan(
    ["mf", "mmgrec"], tmp_path, trials=1,
    settings={"width": "8", "generator.epochs": "2", "model.epochs": "3"},
  )  # fmt: skip
  assert mf.given == {"width": "8", "model.epochs": "3"}
  assert mmgrec.given == {"width": "8", "generator.epochs": "2"}
  assert "--config.model.epochs=3" in mf.command
  assert "model.epochs" not in mmgrec.command


@pytest.mark.parametrize(
  ("arguments", "says"),
  [
    (["--config=FILE"], "a range needs --trials=N"),
    (["--config=FILE:mf", "--models=mf", "--trials=1"], "no colon here"),
    (["--config=FILE", "--models=mff", "--trials=1"], "'mff'; there are all"),
    (["--config=FILE:mf", "--set", "model.l3=1"], "did you mean config.model"),
    (["--config=FILE:mf", "--set", "model.l2"], "give KEY=VALUES"),
    (["--config=FILE:mf", "--set", "width=x"], "config.width=x"),
    (["--config=FILE:mf", "--set", "model.l2=log:0:1", "--trials=1"], "above"),
    (["--config=FILE:mf", "--set", "model.l2=log:1", "--trials=1"], "LOW:HIGH"),
    (["--config=FILE:mf", "--set", "width=8,9", "--trials=3"], "only 2 comb"),
    (["--config=FILE:mf", "--trials=0"], "at least 1"),
    (
      ["--config=FILE:mf", "--set", "width=8", "--config.width=9"],
      "width stands in --set and in",
    ),
    (
      ["--config=FILE:mf", "--config.evaluation.splits=valid"],
      "never looks at the test split",
    ),
    (
      ["--config=FILE:mf", "--set", "evaluation.splits=test"],
      "never looks at the test split",
    ),
  ],
)
def test_mistakes_are_named_before_anything_is_trained(
  arguments, says, tmp_path, capsys
):
  arguments = [a.replace("FILE", FILE) for a in arguments]
  with pytest.raises(SystemExit) as stopped:
    sweep.main([*arguments, f"--out={tmp_path / 'o'}"])
  assert stopped.value.code == 2
  assert re.search(says, capsys.readouterr().err)
  assert not (tmp_path / "o").exists()


def test_a_failed_trial_counts_and_comes_last(tmp_path):
  trials = plan(["mf"], tmp_path, space={"model.l2": "1,2,3"})
  for trial, score in zip(trials[1:], (0.25, 0.5), strict=True):
    trial.run.folder.mkdir()
    results = {
      "dataset": {
        "name": "d", "fingerprint": "f", "valid_users_counted": 9,
      },
      "valid": {"mf": {"recall@10": score, "ndcg@10": 0.125}},
      "seconds": {"mf": 7.0, "evaluate": 1.0},
    }  # fmt: skip
    (trial.run.folder / "results.json").write_text(json.dumps(results))
  summary = sweep_report.summarise(trials)
  text = sweep_report.to_markdown(summary)
  assert "mf: 2 of 3 trials finished" in text
  rows = [line.split() for line in text.splitlines()]
  rows = [row[1::2] for row in rows if row and row[0] == "|"][2:]
  assert [row[:4] for row in rows] == [
    ["0.5000", "0.1250", "3", "7"],
    ["0.2500", "0.1250", "2", "7"],
    ["failed", "failed", "1", "-"],
  ]
  assert text.rstrip().endswith("--config.model.l2=3")


def test_a_grid_is_every_combination_once():
  space = {"a": "1,2", "b": "x,y,x"}
  pairs = [tuple(trial.values()) for trial in spaces.grid(space)]
  assert pairs == [("1", "x"), ("1", "y"), ("2", "x"), ("2", "y")]
  drawn = [tuple(trial.values()) for trial in spaces.draw(space, 4, seed=0)]
  assert sorted(drawn) == pairs


def test_random_trials_stay_in_their_ranges_and_more_keep_the_first():
  space = {"a": "log:1e-6:1", "b": "uniform:2:3", "c": "p,q"}
  few, many = (spaces.draw(space, n, seed=1) for n in (5, 400))
  assert many[:5] == few
  assert spaces.draw(space, 5, seed=2) != few
  a = [float(trial["a"]) for trial in many]
  assert min(a) >= 1e-6 and max(a) <= 1
  # Even in the logarithm: half of them lie below the middle, 1e-3.
  assert 150 < sum(value < 1e-3 for value in a) < 250
  b = [float(trial["b"]) for trial in many]
  assert 2 <= min(b) < 2.05 and 2.95 < max(b) <= 3
  assert {trial["c"] for trial in many} == {"p", "q"}


@pytest.mark.parametrize("system", runs.SYSTEMS)
def test_a_space_holds_the_default_and_only_what_main_accepts(system):
  space = spaces.SPACES[system]
  assert any(map(spaces.is_range, space.values()))
  default = dict(configs.flatten(configs.default_config(system)))
  tries = {}
  for key, values in space.items():
    if spaces.is_range(values):
      low, high = spaces.ends(values)
      assert low <= default[key] <= high
      tries[key] = [str(low), str(high)]
    else:
      tries[key] = values.split(",")
      assert str(default[key]) in tries[key]
  for number in range(max(map(len, tries.values()))):
    chosen = {key: own[number % len(own)] for key, own in tries.items()}
    runs.read_config(runs.arguments_of(runs.with_system(FILE, system), chosen))
