import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import results
from mmgrec_jax.errors import UserError

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def kept():
  return results.read_all(ROOT / results.KEPT)


def test_readme_shows_what_the_experiments_measured(kept):
  assert README.count("\n<!-- end -->\n") >= 2
  assert results.fill_in(README, kept) == README


def test_other_scores_make_another_readme(kept):
  other = copy.deepcopy(kept)
  scores = other["table2"]["lfm2k"]["systems"]["mmgrec"]["test"]["recall@10"]
  scores["mean"] = 0.98765
  assert "| 0.9877 ±" in results.fill_in(README, other)


def test_a_table_of_what_was_not_measured_is_named(kept):
  text = "<!-- table2 kwai -->\n<!-- end -->\n"
  with pytest.raises(UserError, match="run experiments.table2 on it"):
    results.fill_in(text, kept)


def test_a_benchmark_that_was_not_measured_is_named(kept):
  text = "<!-- generate abacus -->\n<!-- end -->\n"
  with pytest.raises(UserError, match="run experiments.benchmarks.generate on"):
    results.fill_in(text, kept)


def test_a_benchmark_is_kept_by_backend_without_its_repetitions(tmp_path):
  merged = {
    "headline": "all cores",
    "small": False,
    "repetitions": {"all cores": {}},
    "machine": {"all cores": {"backend": "gpu"}},
  }
  (tmp_path / "graph.json").write_text(json.dumps(merged))
  found = results.read_all(tmp_path)
  assert list(found) == ["graph"]
  assert list(found["graph"]) == ["gpu"]
  assert set(merged) - set(found["graph"]["gpu"]) == {"repetitions"}
  # docs/results has it in that form.
  (tmp_path / "graph.json").write_text(json.dumps(found["graph"]))
  assert results.read_all(tmp_path) == found


def test_times_of_a_tiny_benchmark_are_refused(tmp_path):
  tiny = {"headline": "all cores", "small": True}
  (tmp_path / "graph.json").write_text(json.dumps(tiny))
  with pytest.raises(UserError, match=r"graph\.json was made with --small"):
    results.read_all(tmp_path)


def test_the_beams_of_all_ablations_are_one_table():
  def table(name, of_generator=0.2):
    row = {"test": {"recall@10": {"mean": 0.1, "sd": None}}}
    ours = {"test": {"recall@10": {"mean": of_generator, "sd": None}}}
    systems = {name: row, f"{name}: generator": row, "generator": ours}
    tests = [
      {"system": one, "metric": metric}
      for metric in ("recall@10", "ndcg@10")
      for one in (name, f"{name}: generator")
    ]
    return {"dataset": {"name": "x"}, "systems": systems, "tests": tests}

  found = results.beams_alone([table("a"), table("b")])
  rows = ["a: generator", "generator", "b: generator"]
  assert list(found["systems"]) == rows
  tests = [(test["metric"], test["system"]) for test in found["tests"]]
  assert tests == [
    ("recall@10", rows[0]), ("recall@10", rows[2]),
    ("ndcg@10", rows[0]), ("ndcg@10", rows[2]),
  ]  # fmt: skip
  with pytest.raises(UserError, match="Tables 3 to 5 of x have different 'gen"):
    results.beams_alone([table("a"), table("b", of_generator=0.3)])


def test_what_is_not_finished_is_not_published(tmp_path):
  tiny = {"dataset": {"name": "tiny"}, "not_finished": ["mf-1", "mf-2"]}
  (tmp_path / "figure4.json").write_text(json.dumps({"synthetic": tiny}))
  with pytest.raises(UserError, match=r"of synthetic mf-1, mf-2 did not finis"):
    results.read_all(tmp_path)


def test_a_table_that_lost_rows_does_not_replace_the_whole_one(kept):
  lfm2k = kept["table2"]["lfm2k"]
  few = {**lfm2k, "systems": {"tiger": lfm2k["systems"]["tiger"]}}
  with pytest.raises(UserError, match="table2 of lfm2k in --out has no popula"):
    results.replaced("table2", kept["table2"], {"lfm2k": few})
  again = results.replaced("table2", kept["table2"], {"lfm2k": lfm2k})
  assert again == kept["table2"]


def call(folder, out):
  return subprocess.run(
    [sys.executable, "-m", "experiments.results", f"--out={out}"],
    cwd=folder, capture_output=True, text=True,
    env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
  )  # fmt: skip


def test_the_command_copies_and_fills_in(kept, tmp_path):
  lfm2k = {"datasets": {"lfm2k": kept["table2"]["lfm2k"]}}
  (tmp_path / "table2.json").write_text(json.dumps(lfm2k))
  text = "before\n<!-- table2 lfm2k -->\nold\n<!-- end -->\nafter\n"
  (tmp_path / "README.md").write_text(text)
  done = call(tmp_path, tmp_path)
  assert done.returncode == 0, done.stderr
  filled = (tmp_path / "README.md").read_text()
  assert filled.startswith("before\n<!-- table2 lfm2k -->\nlfm2k")
  assert filled.endswith("\n<!-- end -->\nafter\n")
  assert "old" not in filled
  assert "| mmgrec " in filled
  assert results.read_all(tmp_path / results.KEPT) == {
    "table2": lfm2k["datasets"]
  }
  another = tmp_path / "another"
  another.mkdir()
  ml100k = {"datasets": {"ml100k": kept["table2"]["ml100k"]}}
  (another / "table2.json").write_text(json.dumps(ml100k))
  assert call(tmp_path, another).returncode == 0
  assert results.read_all(tmp_path / results.KEPT) == {
    "table2": {**lfm2k["datasets"], **ml100k["datasets"]}
  }


def test_the_picture_of_a_benchmark_comes_along(kept, tmp_path):
  merged = kept["figure5"]["cpu"] | {"repetitions": {}}
  (tmp_path / "figure5.json").write_text(json.dumps(merged))
  (tmp_path / "figure5.png").write_bytes(b"a picture")
  (tmp_path / "README.md").write_text("<!-- figure5 cpu -->\n<!-- end -->\n")
  done = call(tmp_path, tmp_path)
  assert done.returncode == 0, done.stderr
  picture = tmp_path / results.KEPT / "figure5-cpu.png"
  assert picture.read_bytes() == b"a picture"
  assert "| 5405 items " in (tmp_path / "README.md").read_text()


def test_figure_4_is_a_table_and_a_picture_of_each_data_set(tmp_path):
  score = {"mean": 0.25, "sd": None, "values": [0.25]}
  panels = {"layers": {"mmgrec": {"1": score, "4": score}}, "heads": {}}
  tiny = {"dataset": {"name": "tiny"}, "panels": panels, "not_finished": []}
  (tmp_path / "figure4.json").write_text(json.dumps({"synthetic": tiny}))
  (tmp_path / "figure4-synthetic.png").write_bytes(b"a picture")
  (tmp_path / "README.md").write_text(
    "<!-- figure4 synthetic -->\n<!-- end -->"
  )
  done = call(tmp_path, tmp_path)
  assert done.returncode == 0, done.stderr
  picture = tmp_path / results.KEPT / "figure4-synthetic.png"
  assert picture.read_bytes() == b"a picture"
  (row,) = [
    line
    for line in (tmp_path / "README.md").read_text().splitlines()
    if line.startswith("| mmgrec")
  ]
  cells = [cell.strip() for cell in row.split("|")[2:-1]]
  assert cells == ["0.2500", "not run", "not run", "0.2500"]


def test_what_a_table_needs_is_missing_and_nothing_is_changed(tmp_path):
  (tmp_path / "table2.json").write_text('{"datasets": {}}')
  text = "<!-- table2 lfm2k -->\nold\n<!-- end -->\n"
  (tmp_path / "README.md").write_text(text)
  done = call(tmp_path, tmp_path)
  assert done.returncode == 2
  assert "no table2 of it" in done.stderr
  assert (tmp_path / "README.md").read_text() == text
  assert not (tmp_path / results.KEPT).exists()


def test_a_damaged_table_is_named(tmp_path):
  (tmp_path / "table2.json").write_text("{")
  done = call(tmp_path, tmp_path)
  assert done.returncode == 2
  assert "table2.json: damaged" in done.stderr


def test_a_folder_without_tables_is_an_error(tmp_path):
  done = call(tmp_path, tmp_path)
  assert done.returncode == 2
  assert "none of table2, table3" in done.stderr
