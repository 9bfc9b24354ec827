import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import paper, planning, runs, tables

# Of ml_collections, when it reads a config file in this process.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")

ROOT = Path(__file__).parents[2]
TINY = {
  "synthetic.n_users": 60,
  "synthetic.n_items": 50,
  "synthetic.interactions_per_user": 12,
  "width": 8,
  "model.epochs": 2,
}


def call(number, *flags):
  settings = [f"--config.{key}={value}" for key, value in TINY.items()]
  return subprocess.run(
    [sys.executable, "-m", f"experiments.table{number}", *settings, *flags],
    cwd=ROOT, capture_output=True, text=True,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
  )  # fmt: skip


def test_the_printed_improvements_follow_from_the_printed_scores():
  table = paper.TABLES[2]
  for name, percent in paper.IMPROVEMENT.items():
    for metric in paper.Score._fields:
      of = lambda row, name=name, metric=metric: getattr(
        table[row][name], metric
      )
      best = max(of(row) for row in table if row != "MMGRec")
      assert best == of("LightGT")
      gain = 100 * (of("MMGRec") / best - 1)
      assert gain == pytest.approx(getattr(percent, metric), abs=0.005)


def test_every_row_that_the_paper_prints_is_one_of_ours():
  for number, printed in paper.TABLES.items():
    names = {row.paper for row in tables.TABLES[number].values()} - {None}
    assert names == set(printed)
    assert all(set(scores) == set(paper.DATA_SETS)
               for scores in printed.values())  # fmt: skip


@pytest.mark.parametrize("number", [3, 4, 5])
def test_every_variant_is_a_valid_config_of_its_own(
  number, tmp_path, monkeypatch
):
  monkeypatch.chdir(ROOT)
  variants = {name: row.variant for name, row in tables.TABLES[number].items()}
  data = {"data": str(tmp_path)}
  planned = planning.plan_runs(
    "configs/lfm2k.py", data, variants, [0], tmp_path
  )
  made = [str(planning.read_config(run.arguments)) for run in planned]
  assert len(set(made)) == 3


def test_the_papers_own_model_is_a_row_where_it_is_asked_for(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(ROOT)
  planned = []
  monkeypatch.setattr(runs, "execute_all", lambda of: planned.extend(of) or [])
  flags = ["--datasets=synthetic", "--seeds=1", f"--out={tmp_path}"]
  tables.main(2, flags)
  assert len(planned) == len(tables.TABLES[2]) - 1
  assert {"paper", "mmgrec"} & {run.row for run in planned} == {"mmgrec"}
  del planned[:]
  tables.main(2, [*flags, "--models=all,paper"])
  assert len(planned) == len(tables.TABLES[2])
  del planned[:]
  tables.main(2, [*flags, "--models=mmgrec,paper", "--seeds=2"])
  theirs, ours, again = planned  # one seed of what takes hours
  assert (again.row, again.seed) == ("mmgrec", 1)
  assert (theirs.row, theirs.system, ours.row) == ("paper", "mmgrec", "mmgrec")
  config = planning.read_config(theirs.arguments)
  assert config.embedding == "gcn" and config.generator.epochs == 1000
  # Its settings are no change of its own.
  assert tables.changed_settings([theirs, ours])
  assert tables.changed_settings([theirs]) == []


def test_distilled_is_a_row_with_its_own_count_of_changed_settings(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(ROOT)
  variants = {name: row.variant for name, row in tables.TABLES[2].items()}
  data = {"data": str(tmp_path)}
  planned = planning.plan_runs(
    "configs/lfm2k.py", data, variants, [0], tmp_path
  )
  facts = dict.fromkeys(("users", "items", "interactions", "modalities"), 0)
  said = tables.differs(2, planned, facts)
  ours = tables.changed_settings(planned)
  (run,) = [run for run in planned if run.row == "distilled"]
  theirs = tables.changed_settings([run])
  assert run.system == "mmgrec"
  assert said["mmgrec"] == f"data, features, {len(ours)} settings"
  assert said["distilled"] == f"data, features, {len(theirs)} settings"
  assert any("generator.soft_targets.teacher" in one for one in theirs)
  assert not any("generator.soft_targets.teacher" in one for one in ours)


def test_table_2_says_how_ours_differs_and_goes_on(tmp_path):
  flags = ["--datasets=synthetic", "--models=itemknn,lightgcn",
           "--seeds=2", f"--out={tmp_path}"]  # fmt: skip
  done = call(2, *flags)
  assert done.returncode == 0, done.stderr
  text = (tmp_path / "table2.md").read_text()
  (ours,) = [one for one in text.splitlines() if one.startswith("| lightgcn")]
  for word in (" ± ", "0.2381 / 0.1592", "0.0988 / 0.0603", "0.0502 / 0.0411",
               "data, features, settings"):  # fmt: skip
    assert word in ours
  (other,) = [one for one in text.splitlines() if one.startswith("| itemknn")]
  assert "not in the paper" in other
  found = json.loads((tmp_path / "table2.json").read_text())
  synthetic = found["datasets"]["synthetic"]
  assert synthetic["systems"]["lightgcn"]["seeds"] == [0, 1]
  assert synthetic["systems"]["itemknn"]["seeds"] == [0]
  assert synthetic["dataset"]["fingerprint"] in text
  assert "MovieLens (paper)" in text and "1,239,508" in text
  assert (tmp_path / "table2-synthetic.png").stat().st_size > 1000
  again = call(2, *flags)
  assert again.stdout.count(": finished before") == 3
  assert (tmp_path / "table2.md").read_text() == text


def test_only_the_papers_own_data_and_settings_count_as_the_same(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(ROOT)
  one = paper.DATA_SETS["Kwai"]
  facts = {
    "users": one.users,
    "items": one.items,
    "interactions": one.interactions,
    "modalities": one.modalities,
  }
  variants = {"mmgrec": runs.Variant("mmgrec")}
  data = {"data": str(tmp_path)}
  planned = lambda settings: planning.plan_runs(
    "configs/kwai.py", data | settings, variants, [0], tmp_path
  )
  changed = tables.changed_settings(planned({}))
  assert "config.generator.batch_size: 3000 there, 32 now" in changed
  fewer = tables.changed_settings(planned({"generator.batch_size": "3000"}))
  assert len(fewer) == len(changed) - 1
  said = tables.differs(2, planned({}), facts)
  assert said["mmgrec"] == f"{len(changed)} settings"
  assert said["lightgt"] == "settings (it prints none)"
  assert said["ease"] == "not in the paper"
  other = tables.differs(2, planned({}), facts | {"items": 5})
  assert other["mmgrec"] == f"data, features, {len(changed)} settings"


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_settings_that_the_papers_preset_has_not_are_named_too(
  number, tmp_path, monkeypatch
):
  monkeypatch.chdir(ROOT)
  variants = {name: row.variant for name, row in tables.TABLES[number].items()}
  data = {"data": str(tmp_path)}
  planned = lambda settings: planning.plan_runs(
    "configs/lfm2k.py", data | settings, variants, [0], tmp_path
  )
  plain = tables.changed_settings(planned({}))
  given = {"model.users": "graph", "norm_powers": "(0.0,)"}
  changed = tables.changed_settings(planned(given))
  assert 'config.model.users: null there, "graph" now' in changed
  # These powers are the paper's.
  assert not [one for one in changed if "norm_powers" in one]
  assert len(changed) == len(plain) - 1
  changed = tables.changed_settings(planned({"generator.batch_size": "7"}))
  assert "config.generator.batch_size: 3000 there, 7 now" in changed


def test_what_a_row_is_about_is_not_named_as_changed(tmp_path, monkeypatch):
  monkeypatch.chdir(ROOT)
  rows = tables.TABLES[5]
  changed = [
    tables.changed_settings(
      planning.plan_runs(
        "configs/lfm2k.py",
        {"data": str(tmp_path)},
        {name: rows[name].variant for name in names},
        [0],
        tmp_path,
      )
    )
    for names in (["pe-without"], ["pe-without", "mmgrec"])
  ]
  assert changed[0] == changed[1]
  assert changed[0] and not [one for one in changed[0] if "encoder:" in one]


@pytest.mark.parametrize(
  ("flags", "says"),
  [
    (["--datasets=lfm3k=x"], "there is no configs/lfm3k.py, only those of"),
    (["--datasets=synthetic", "--models=hkmeans"], "there are all, hk-means"),
    (["--datasets=synthetic", "--seeds=0"], "how many there are, 1 or more"),
    (["--datasets=own=a,own=b"], "own is there twice; give the other a config"),
    (
      ["--datasets=own=a", "--config.data=b"],
      "own=a and --config.data=b: give",
    ),
    (["--datasets=own=nowhere"], "No data set at 'nowhere'"),
  ],
)
def test_mistakes_are_named(flags, says, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(ROOT)
  with pytest.raises(SystemExit) as stopped:
    tables.main(4, [f"--out={tmp_path / 'o'}", *flags])
  assert stopped.value.code == 2
  assert says in capsys.readouterr().err
  assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
  ("number", "setting"),
  [
    (3, "generator.item_embedding=learned"),
    (4, "recid.method=hkmeans"),
    (5, "generator.encoder=none"),
  ],
)
def test_what_a_table_varies_is_not_given(
  number, setting, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(ROOT)
  monkeypatch.setattr(runs, "execute_all", lambda planned: [])
  flags = ["--datasets=synthetic", f"--out={tmp_path / 'o'}"]
  with pytest.raises(SystemExit) as stopped:
    tables.main(number, [*flags, f"--config.{setting}"])
  assert stopped.value.code == 2
  key = setting.partition("=")[0]
  said = capsys.readouterr().err
  assert said == f"error: --config.{key}: the table varies it itself.\n"
  assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("number", [3, 4])
def test_any_health_may_be_let_pass_in_all_rows(number, tmp_path, monkeypatch):
  monkeypatch.chdir(ROOT)
  planned = []
  monkeypatch.setattr(runs, "execute_all", lambda of: planned.extend(of) or [])
  flags = ["--datasets=synthetic", "--seeds=1", f"--out={tmp_path}"]
  tables.main(number, [*flags, "--config.recid.ignore_health=True"])
  assert len(planned) == 3
  for run in planned:
    assert planning.read_config(run.arguments).recid.ignore_health
