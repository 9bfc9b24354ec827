import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import compare, compare_report, comparisons, planning, runs
from mmgrec_jax.arrays import write_arrays
from mmgrec_jax.data.folder import save_dataset
from mmgrec_jax.errors import UserError
from mmgrec_jax.stages.load import find_data
from mmgrec_jax.workdir import Workdir

# Of ml_collections, when it reads a config file in this process.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")

ROOT = Path(__file__).parents[2]
FILE = f"--config={ROOT / 'configs' / 'synthetic.py'}"
TINY = {
  "synthetic.n_users": 60,
  "synthetic.n_items": 50,
  "synthetic.interactions_per_user": 12,
  "width": 8,
  "model.epochs": 2,
  "model.layers": 1,  # lightgcn has layers, mf has none
}


def call(out):
  settings = [f"--config.{key}={value}" for key, value in TINY.items()]
  return subprocess.run(
    [sys.executable, "-m", "experiments.compare", FILE, *settings,
     "--models=lightgcn,mf", "--seeds=0,1", f"--out={out}"],
    cwd=ROOT, capture_output=True, text=True,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
  )  # fmt: skip


def read(path):
  return json.loads(path.read_text())


def scores(out):
  return {
    row: (found["seeds"], found["valid"], found["test"])
    for row, found in read(out / "compare.json")["systems"].items()
  }


def test_a_failed_run_ends_alone_and_the_same_command_goes_on(tmp_path):
  (tmp_path / "mf-0").mkdir()
  broken = tmp_path / "mf-0" / "vectors.npz"
  broken.write_bytes(b"PK")
  done = call(tmp_path)
  assert done.returncode == 1
  assert "1 of 4 runs failed (mf-0)" in done.stderr
  assert done.stdout.count(": done in") == 3
  assert "Not finished: mf-0." in (tmp_path / "compare.md").read_text()
  first = scores(tmp_path)
  assert list(first) == ["popularity", "mf", "lightgcn"]
  assert first["mf"][0] == [1] and first["lightgcn"][0] == [0, 1]

  # One run can be read again, another lost its results but not its training.
  broken.unlink()
  (tmp_path / "lightgcn-1" / "results.json").unlink()
  kept = (tmp_path / "lightgcn-0" / "results.json").stat().st_mtime_ns
  lines = (tmp_path / "lightgcn-1" / "metrics.jsonl").read_text()
  done = call(tmp_path)
  assert done.returncode == 0, done.stderr
  assert done.stdout.count(": finished before") == 2
  assert done.stdout.count(": done in") == 2
  now = (tmp_path / "lightgcn-0" / "results.json").stat().st_mtime_ns
  assert now == kept
  assert (tmp_path / "lightgcn-1" / "metrics.jsonl").read_text() == lines

  last = scores(tmp_path)
  assert last["lightgcn"] == first["lightgcn"]
  runs = [read(tmp_path / f"mf-{seed}" / "results.json") for seed in (0, 1)]
  of_mf = last["mf"][2]["recall@10"]
  assert of_mf["values"] == [run["test"]["mf"]["recall@10"] for run in runs]
  assert of_mf["values"][0] != of_mf["values"][1]
  assert of_mf["mean"] == pytest.approx(sum(of_mf["values"]) / 2)
  assert last["popularity"][2]["recall@10"]["sd"] == 0
  assert (tmp_path / "compare.md").read_text() in done.stdout
  assert "Not finished" not in done.stdout
  assert (tmp_path / "compare.png").stat().st_size > 1000


@pytest.mark.parametrize(
  ("arguments", "says"),
  [
    (["--models=mf,lightgnc"], "'lightgnc'; there are all, itemknn, .*tiger"),
    (["--seeds=0,one"], "--seeds=0,one: give whole numbers"),
    (["--config.seed=3"], "give --seeds"),
    (["--config.evaluation.splits=valid"], "a table needs both"),
    (["--config.generator.head=3"], "did you mean config.generator.heads"),
    (["--models=mf", "--config.width=x"], "config.width=x"),
    (["--models=mf", "--config.width=0"], "config.width = 0 is out of range"),
    (["--sedes=1"], "'--sedes=1' is none of its flags"),
  ],
)
def test_mistakes_are_named_before_anything_is_trained(
  arguments, says, tmp_path, capsys
):
  with pytest.raises(SystemExit) as stopped:
    compare.main([FILE, f"--out={tmp_path / 'o'}", *arguments])
  assert stopped.value.code == 2
  assert re.search(says, capsys.readouterr().err)
  assert not (tmp_path / "o").exists()


def test_a_file_in_the_place_of_out_is_named(tmp_path, capsys):
  (tmp_path / "o").write_text("")
  with pytest.raises(SystemExit) as stopped:
    compare.main([FILE, f"--out={tmp_path / 'o'}", "--models=ease"])
  assert stopped.value.code == 2
  assert "o: cannot be a folder (File exists)" in capsys.readouterr().err


def test_a_folder_with_other_settings_does_not_enter_the_table(
  tmp_path, capsys
):
  (tmp_path / "mf-0").mkdir()
  (tmp_path / "mf-0" / "config.json").write_text('{"width": 3}')
  with pytest.raises(SystemExit):
    compare.main([FILE, f"--out={tmp_path}", "--models=mf", "--seeds=0"])
  said = capsys.readouterr().err
  assert "mf-0 holds a run with other settings" in said
  assert "config.width: 3 there, 64 now" in said


@pytest.mark.parametrize("settings", [{}, {"data": "synthetic"}])
def test_a_folder_with_a_run_on_other_data_does_not_enter_the_table(
  tmp_path, small_data, settings
):
  save_dataset(small_data, tmp_path / "data")
  settings = {"data": str(tmp_path / "data"), **settings}
  variants = {"mf": runs.Variant("mf")}
  plan_again = lambda: planning.plan_runs(
    str(ROOT / "configs" / "own.py"), settings, variants, [0, 1], tmp_path
  )
  run, other = plan_again()
  run.folder.mkdir()
  config = planning.read_config(run.arguments)
  data = find_data(config)
  Workdir(run.folder, config, data)
  plan_again()
  pinned = run.folder / "dataset.json"
  pinned.write_text(json.dumps({"fingerprint": "of before"}))
  with pytest.raises(UserError, match="mf-0 holds a run on other data than"):
    plan_again()
  if "synthetic" not in settings["data"]:
    shutil.rmtree(settings["data"])
    (run.folder / "results.json").write_text("{}")
    with pytest.raises(UserError, match="No data set at '.*data'"):
      plan_again()
    other.folder.mkdir()
    (other.folder / "results.json").write_text("{}")
    plan_again()  # finished runs are enough for a table


def plan(settings, out):
  systems = ("mf", "lightgcn", "tiger", "mmgrec")
  return planning.plan_runs(
    FILE.removeprefix("--config="),
    settings,
    {system: runs.Variant(system) for system in systems},
    [0],
    out,
  )


@pytest.mark.parametrize("users", ["history", "graph"])
def test_each_setting_goes_to_the_systems_that_use_it(users, tmp_path):
  planned = plan(
    {
      "generator.epochs": "2",
      "model.layers": "1",
      "model.item_layers": "2",
      "model.users": users,
    },
    tmp_path,
  )
  given = {
    run.system: {a.partition("=")[0] for a in run.command if "." in a}
    for run in planned
  }
  uses = lambda key: {
    s for s, keys in given.items() if f"--config.{key}" in keys
  }
  assert uses("generator.epochs") == {"tiger", "mmgrec"}
  with_graph = {"mmgrec"} if users == "graph" else set()
  assert uses("model.layers") == {"lightgcn"} | with_graph
  assert uses("model.item_layers") == {"mmgrec"}


def test_each_setting_goes_to_the_rows_that_use_it(tmp_path):
  variants = {
    "sgd": runs.Variant("mmgrec", {"generator.optimizer.name": "sgd"}),
    "graph": runs.Variant("mmgrec", {"model.users": "graph"}),
    "mmgrec": runs.Variant("mmgrec"),
  }
  file = FILE.removeprefix("--config=")
  momentum = "generator.optimizer.momentum"
  given = {momentum: "0.5", "model.layers": "3", "width": "32"}
  planned = planning.plan_runs(file, given, variants, [0], tmp_path)
  for run in planned:
    config = planning.read_config(run.arguments)
    of_sgd = config.generator.optimizer.momentum == 0.5
    assert of_sgd == (run.row == "sgd")
    assert (config.model.layers == 3) == (run.row == "graph")
    assert config.width == 32
  del variants["graph"]
  with pytest.raises(UserError, match="no effect unless config.model.users"):
    planning.plan_runs(file, given, variants, [0], tmp_path)


def test_a_setting_that_no_system_uses_is_an_error(tmp_path):
  with pytest.raises(UserError, match="no effect unless config.rqvae"):
    plan({"rqvae.optimizer.momentum": "0.5"}, tmp_path)


def test_where_nothing_is_random_one_run_is_enough(tmp_path):
  planned = planning.plan_runs(
    FILE.removeprefix("--config="),
    {},
    {s: runs.Variant(s) for s in ("itemknn", "ease", "mf")},
    [3, 4],
    tmp_path,
  )
  assert [(run.row, run.seed) for run in planned] == [
    ("itemknn", 3), ("ease", 3), ("mf", 3), ("mf", 4),
  ]  # fmt: skip


def test_a_variants_own_setting_comes_after_those_given_to_all(tmp_path):
  (run,) = planning.plan_runs(
    FILE.removeprefix("--config="),
    {"generator.encoder": "relation", "width": "32"},
    {"no-pe": runs.Variant("mmgrec", {"generator.encoder": "none"})},
    [0],
    tmp_path,
  )
  assert run.folder.name == "no-pe-0"
  config = planning.read_config(run.arguments)
  assert (config.generator.encoder, config.width) == ("none", 32)


@pytest.fixture
def finished(tmp_path):
  """(row, seed, per-user Recall@10 by system) -> a run with such results.

  At other cutoffs it has the same.
  """

  def make(row, seed, recalls, system=None, mark="data", cutoffs=(10,)):
    folder = tmp_path / f"{row}-{seed}"
    folder.mkdir()
    scores = {
      s: {f"recall@{k}": float(np.mean(r)) for k in cutoffs}
      for s, r in recalls.items()
    }
    results = {
      "dataset": {"fingerprint": mark},
      "valid": scores,
      "test": scores,
      "seconds": {"embed": 1.0, "evaluate": 1.0},
      "seconds_per_1000_users": dict.fromkeys(recalls, 0.1),
    }
    (folder / "results.json").write_text(json.dumps(results))
    arrays = {
      f"test/{s}/recall@{k}": np.array(r)
      for s, r in recalls.items()
      for k in cutoffs
    }
    write_arrays(folder / "per_user.npz", arrays)
    return runs.Run(row, system or row, seed, folder, [])

  return make


def compared_by(summary, metric):
  return [test for test in summary["tests"] if test["metric"] == metric]


def test_runs_of_different_data_are_not_averaged(finished):
  of = [
    finished("mf", seed, {"mf": [0.1]}, mark=f"data {seed}") for seed in (0, 1)
  ]
  with pytest.raises(compare_report.UserError, match="different data"):
    compare_report.summarise(of)


def test_mmgrec_is_tested_against_the_best_of_the_others(finished):
  done = [
    finished("mf", 0, {"popularity": [0.0, 0.2], "mf": [0.1, 0.3]}),
    finished("ease", 0, {"popularity": [0.0, 0.2], "ease": [0.2, 0.5]}),
    # Its own embedding is better than both, and no rival.
    finished("mmgrec", 0, {"embedding": [0.9, 0.9], "mmgrec": [0.3, 0.5]}),
    finished("mmgrec", 1, {"embedding": [0.9, 0.9], "mmgrec": [0.2, 0.7]}),
  ]
  summary = compare_report.summarise(done)
  assert list(summary["systems"]) == [
    "popularity", "mf", "ease", "embedding", "mmgrec",
  ]  # fmt: skip
  test, of_vectors = compared_by(summary, "recall@10")
  assert (test["system"], test["other"]) == ("mmgrec", "ease")
  assert test["difference"] == pytest.approx(0.425 - 0.35)
  assert test["one_sample"]["t"] == pytest.approx(0.075 / 0.025)
  assert test["welch"] is None  # of ease there is one run
  # Users' differences, averaged over seeds first: 0.05 and 0.1.
  assert test["paired"]["df"] == 1
  assert test["paired"]["t"] == pytest.approx(0.075 / 0.025)
  assert (of_vectors["system"], of_vectors["other"]) == ("mmgrec", "embedding")
  assert of_vectors["difference"] == pytest.approx(0.425 - 0.9)
  _, first, second = comparisons.table([test, of_vectors])
  assert first[:4] == ["Recall@10", "mmgrec", "ease", "+0.0750 (+21.4%)"]
  assert second[:4] == ["Recall@10", "mmgrec", "embedding", "-0.4750 (-52.8%)"]


def test_without_mmgrec_the_best_system_is_tested_against_the_second(finished):
  done = [
    finished("mf", 0, {"mf": [0.1, 0.3]}),
    finished("ease", 0, {"ease": [0.2, 0.5]}),
    finished("itemknn", 0, {"itemknn": [0.2, 0.3]}),
  ]
  (test,) = compared_by(compare_report.summarise(done), "recall@10")
  assert (test["system"], test["other"]) == ("ease", "itemknn")


def test_distilled_beams_are_tested_as_mmgrec_is_and_are_no_rival(finished):
  parts = {"embedding": [0.3, 0.2], "generator": [0.2, 0.2]}
  done = [
    finished("mf", 0, {"mf": [0.1, 0.3]}),
    finished("ease", 0, {"ease": [0.2, 0.3]}),
    finished("mmgrec", 0, {**parts, "mmgrec": [0.3, 0.5]}),
    finished(
      "distilled",
      0,
      {**parts, "generator": [0.4, 0.6], "mmgrec": [0.9, 0.9]},
      system="mmgrec",
    ),
  ]
  found = compared_by(compare_report.summarise(done), "recall@10")
  beams = "distilled: generator"
  assert [(test["system"], test["other"]) for test in found] == [
    ("mmgrec", "ease"),
    ("mmgrec", "embedding"),
    (beams, "ease"),
    (beams, "embedding"),
    (beams, "generator"),
  ]
  assert found[2]["difference"] == pytest.approx(0.5 - 0.25)
  # Where MMGRec as it is was not run, against the best of all.
  without = [run for run in done if run.row != "mmgrec"]
  found = compared_by(compare_report.summarise(without), "recall@10")
  assert [(test["system"], test["other"]) for test in found] == [
    ("ease", "mf"), (beams, "ease"),
  ]  # fmt: skip


def test_mmgrec_is_tested_against_the_papers_best_once(finished):
  done = [
    finished("ease", 0, {"ease": [0.2, 0.6]}),
    finished("lightgt", 0, {"lightgt": [0.3, 0.1]}),
    finished("mmgrec", 0, {"mmgrec": [0.3, 0.5]}),
  ]
  against = lambda done: [
    test["other"]
    for test in compared_by(compare_report.summarise(done), "recall@10")
  ]
  assert against(done) == ["ease", "lightgt"]
  assert against(done[1:]) == ["lightgt"]


def test_a_row_without_a_cutoff_is_no_rival_there(finished):
  done = [
    finished("mf", 0, {"mf": [0.1, 0.2]}, cutoffs=(10, 20)),
    finished("paper", 0, {"mmgrec": [0.3, 0.3]}, system="mmgrec"),
    finished("mmgrec", 0, {"mmgrec": [0.3, 0.5]}, cutoffs=(10, 20)),
  ]
  summary = compare_report.summarise(done)
  others = [(test["metric"], test["other"]) for test in summary["tests"]]
  assert others == [("recall@10", "paper"), ("recall@20", "mf")]
  facts = {"name": "x", "users": 2, "items": 9, "test_users_counted": 2}
  text = compare_report.to_markdown({**summary, "dataset": facts})
  (row,) = [one for one in text.splitlines() if one.startswith("| paper")]
  assert [cell.strip() for cell in row.split("|")[2:4]] == ["0.3000", "–"]


def test_a_changed_system_is_a_row_of_its_own_and_so_are_its_beams(finished):
  scores = {
    "popularity": [0.1, 0.0], "generator": [0.2, 0.4], "mmgrec": [0.3, 0.5],
  }  # fmt: skip
  changed = {**scores, "generator": [0.8, 0.8], "mmgrec": [0.2, 0.2]}
  done = [
    finished("no-pe", 0, changed, system="mmgrec"),
    finished("mmgrec", 0, scores),
  ]
  summary = compare_report.summarise(done)
  means = {
    row: found["test"]["recall@10"]["mean"]
    for row, found in summary["systems"].items()
  }
  assert means == pytest.approx(
    {
      "popularity": 0.05, "no-pe: generator": 0.8, "no-pe": 0.2,
      "generator": 0.3, "mmgrec": 0.4,
    }
  )  # fmt: skip
  # The best of all, but no rival: beams are tested against beams.
  test, of_beams = compared_by(summary, "recall@10")
  assert test["other"] == "no-pe"
  pair = (of_beams["system"], of_beams["other"])
  assert pair == ("no-pe: generator", "generator")
  assert of_beams["paired"]["difference"] == pytest.approx(0.8 - 0.3)


def test_a_systems_training_is_what_it_needs():
  seconds = {
    "embed": 1.0, "rqvae": 2.0, "generate": 4.0, "evaluate": 8.0,
    "ease": 16.0, "rescore": 32.0,
  }  # fmt: skip
  of = lambda row: compare_report.training_seconds(row, seconds)
  assert [of(r) for r in ("popularity", "embedding", "mmgrec")] == [0, 1, 55]
  assert [of(r) for r in ("generator", "without_ease")] == [7, 39]
  seconds["teacher"] = 64.0  # which knows EASE, so that the beams do
  assert [of(r) for r in ("popularity", "embedding", "mmgrec")] == [0, 1, 119]
  assert [of(r) for r in ("generator", "without_ease")] == [87, 119]


def test_a_part_that_another_program_ranks_costs_nothing_of_its_own(finished):
  of = finished("mmgrec", 0, {"generator": [0.2], "mmgrec": [0.3]})
  path = of.folder / "results.json"
  results = json.loads(path.read_text())
  del results["seconds_per_1000_users"]["generator"]
  facts = {"name": "d", "users": 1, "items": 1, "test_users_counted": 1}
  results["dataset"].update(facts)
  path.write_text(json.dumps(results))
  lines = compare_report.to_markdown(compare_report.summarise([of])).split("\n")
  (row,) = (line for line in lines if line.startswith("| generator"))
  assert [cell.strip() for cell in row.split("|")[-3:-1]] == ["–", "0"]
