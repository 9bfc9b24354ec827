import json
import re
from pathlib import Path
from typing import Any

import pytest

from experiments import compare, planning, runs, spaces, sweep, sweep_report
from mmgrec_jax import config as configs
from mmgrec_jax import pipeline

# Of ml_collections, when it reads a config file in this process.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")

FILE = str(Path(__file__).parents[2] / "configs" / "synthetic.py")
TINY = {
  "synthetic.n_users": 40,
  "synthetic.n_items": 30,
  "synthetic.interactions_per_user": 10,
}


@pytest.fixture
def run_sweep(tmp_path, monkeypatch, one_device):
  """Sweeps l2 of ease, runs in this process; what is tried, and sweep.json."""

  def here(run):
    pipeline.run(planning.read_config(run.arguments), run.folder)
    tried.append(run.own["model.l2"])
    return 0

  def run(l2):
    tried.clear()
    settings = [f"--config.{key}={value}" for key, value in TINY.items()]
    sweep.main([f"--config={FILE}", "--models=ease", *settings, "--set",
                f"model.l2={l2}", f"--out={tmp_path}"])  # fmt: skip
    found = json.loads((tmp_path / "sweep.json").read_text())
    return list(tried), found["systems"]["ease"]

  tried = []
  monkeypatch.setattr(runs, "execute", here)
  return run


def test_a_sweep_has_no_test_scores_and_a_larger_one_keeps_its_trials(
  run_sweep, tmp_path, capsys
):
  tried, trials = run_sweep("1,1e3")
  assert tried == ["1", "1e3"]
  for trial in trials:
    folder = tmp_path / trial["folder"]
    results = json.loads((folder / "results.json").read_text())
    assert "test" not in results
    assert results["valid"]["ease"] == trial["valid"]
    config = json.loads((folder / "config.json").read_text())
    assert config["model"]["l2"] == float(trial["settings"]["model.l2"])
  shown = (tmp_path / "sweep.md").read_text()
  assert shown in capsys.readouterr().out
  assert trials[0]["command"] in shown
  assert "--config.synthetic.n_users=40" in trials[0]["command"]
  assert "evaluation.splits" not in shown  # what is pasted does test
  workdir = [f"--workdir=runs/{trial['folder']}" for trial in trials]
  assert all(w in t["command"] for w, t in zip(workdir, trials, strict=True))
  assert (tmp_path / "sweep.png").stat().st_size > 1000

  tried, more = run_sweep("1,10,1e3")
  assert tried == ["10"]
  assert [trial for trial in more if trial in trials] == trials


def plan(systems, out, space=(), trials=None):
  rows = sweep.trials_of(systems, dict(space), {}, trials, 0)
  return planning.plan_runs(FILE, {}, rows, [0], out)


def test_every_system_gets_the_same_number_of_trials_and_no_test(tmp_path):
  planned = plan(["mf", "lattice", "mmgrec"], tmp_path, trials=3)
  assert [run.system for run in planned] == (
    ["mf"] * 3 + ["lattice"] * 3 + ["mmgrec"] * 3
  )
  assert len({run.folder for run in planned}) == 9
  for run in planned:
    assert planning.read_config(run.arguments).evaluation.splits == ("valid",)
    assert set(run.own) - {sweep.SPLITS} == set(spaces.SPACES[run.system])


def test_a_setting_goes_to_the_trials_that_use_it(tmp_path):
  given = {"model.layers": "3"}
  space = {"model.users": "graph,history"}
  rows = sweep.trials_of(["mmgrec"], space, given, None, 0)
  planned = planning.plan_runs(FILE, given, rows, [0], tmp_path)
  layers = {
    run.own["model.users"]: planning.read_config(run.arguments).model.layers
    for run in planned
  }
  assert layers == {"graph": 3, "history": 2}


def test_what_is_fixed_is_not_tried(tmp_path, monkeypatch):
  planned = []
  monkeypatch.setattr(runs, "execute_all", lambda of: planned.extend(of) or [])
  sweep.main([f"--config={FILE}", "--models=lightgcn,mmgrec", "--trials=2",
              "--config.model.l2=0.5", f"--out={tmp_path}"])  # fmt: skip
  assert len({run.folder for run in planned}) == 4
  for run in planned:
    assert planning.read_config(run.arguments).model.l2 == 0.5
    left = spaces.SPACES[run.system].keys() - {"model.l2"}
    assert run.own.keys() == left | {sweep.SPLITS}


@pytest.mark.parametrize(
  ("arguments", "says"),
  [
    ([], "a range needs --trials=N"),
    (["--models=mff", "--trials=1"], "'mff'; there are all"),
    (["--set", "model.l3=1"], "did you mean config.model"),
    (["--set", "model.l2"], "give KEY=VALUES"),
    (["--set", "width=x"], "config.width=x"),
    (["--set", "model.l2=log:0:1", "--trials=1"], "above"),
    (["--set", "model.l2=log:1", "--trials=1"], "LOW:HIGH"),
    (["--set", "width=8,9", "--trials=3"], "only 2 comb"),
    (["--trials=0"], "at least 1"),
    (
      ["--models=ease", "--config.model.l2=5", "--trials=1"],
      "ease: nothing is left to try, --config fixes model.l2",
    ),
    (["--set", "width=8", "--config.width=9"], "width stands in --set and in"),
    (
      ["--set", "width=8", "--config.evaluation.splits=valid"],
      "never looks at the test split",
    ),
    (["--set", "evaluation.splits=test"], "never looks at the test split"),
    (["--set", "width=8", "--set", "width=9"], "width is there twice"),
  ],
)
def test_mistakes_are_named_before_anything_is_trained(
  arguments, says, tmp_path, capsys
):
  fixed = [f"--config={FILE}", "--models=mf", f"--out={tmp_path / 'o'}"]
  with pytest.raises(SystemExit) as stopped:
    sweep.main([*fixed, *arguments])
  assert stopped.value.code == 2
  assert re.search(says, capsys.readouterr().err.replace("\n", " "))
  assert not (tmp_path / "o").exists()


def test_a_failed_trial_counts_and_comes_last(tmp_path):
  planned = plan(["mf"], tmp_path, space={"model.l2": "1,2,3"})
  for run, score in zip(planned[1:], (0.25, 0.5), strict=True):
    run.folder.mkdir()
    results = {
      "dataset": {
        "name": "d", "fingerprint": "f", "valid_users_counted": 9,
      },
      "valid": {"mf": {"recall@10": score, "ndcg@10": 0.125}},
      "seconds": {"mf": 7.0, "evaluate": 1.0},
    }  # fmt: skip
    (run.folder / "results.json").write_text(json.dumps(results))
  summary = sweep_report.summarise(planned)
  text = sweep_report.to_markdown(summary)
  assert "mf: 2 of 3 trials finished" in text
  rows = [line.split() for line in text.splitlines()]
  rows = [row[1::2] for row in rows if row and row[0] == "|"][2:]
  assert [row[:4] for row in rows] == [
    ["0.5000", "0.1250", "3", "7"],
    ["0.2500", "0.1250", "2", "7"],
    ["failed", "failed", "1", "-"],
  ]
  assert "re-scoring" not in text
  of_mmgrec = {**summary["systems"], "mmgrec": summary["systems"]["mf"]}
  of_both = sweep_report.to_markdown({**summary, "systems": of_mmgrec})
  assert "weights of the re-scoring are learned from what is scored" in of_both
  workdir = f"--workdir=runs/{planned[2].folder.name}"
  assert text.rstrip().endswith(f"--config.model.l2=3 {workdir}")


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


@pytest.mark.parametrize("system", compare.SYSTEMS)
def test_a_space_holds_the_default_and_only_what_main_accepts(system, tmp_path):
  space = spaces.SPACES[system]
  assert any(map(spaces.is_range, space.values()))
  default: dict[str, Any] = dict(
    configs.flatten(configs.default_config(system, configs.EMBEDDING))
  )
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
    row = {system: runs.Variant(system, chosen)}
    planning.plan_runs(FILE, {}, row, [0], tmp_path)
