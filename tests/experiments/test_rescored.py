import json
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import rescored
from mmgrec_jax import pipeline
from mmgrec_jax.arrays import read_arrays
from mmgrec_jax.config import default_config
from mmgrec_jax.data.dataset import TRAIN
from mmgrec_jax.evaluation.evaluate import countable_users, score_lists
from mmgrec_jax.serving.trained import open_workdir
from mmgrec_jax.stages.item_item import read_matrix
from mmgrec_jax.training import parallel

pytestmark = pytest.mark.usefixtures("one_device")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(mmgrec_run, tmp_path_factory):
  """OUT of table2 with a seed of mf and of mmgrec, on `own`."""
  out = tmp_path_factory.mktemp("tables")
  ours, mf = out / "own" / "mmgrec-0", out / "own" / "mf-0"
  only_valid = shutil.ignore_patterns("config.json", "results.json")
  shutil.copytree(mmgrec_run, ours, ignore=only_valid)
  config = open_workdir(mmgrec_run).config
  config.evaluation.splits = ("valid", "test")
  baseline = default_config("mf")
  baseline.data, baseline.evaluation.cutoffs = config.data, (10,)
  baseline.width, baseline.model.epochs = 8, 2
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(parallel, "devices", lambda: jax.local_devices()[:1])
    pipeline.run(config, ours)
    pipeline.run(baseline, mf)
  return out


@pytest.fixture
def out(made, tmp_path, monkeypatch):
  monkeypatch.chdir(ROOT)
  return Path(shutil.copytree(made, tmp_path / "out"))


def flags(out, models="mf,embedding"):
  data = open_workdir(out / "own" / "mmgrec-0").config.data
  sets = f"--datasets=own={data}"
  return [sets, f"--models={models}", "--seeds=1", f"--out={out}"]


def read(out, row):
  folder = out / "own" / "rescored" / f"{row}-0"
  return json.loads((folder / "results.json").read_text())


def weighted_by(monkeypatch, **weights):
  """In the place of what would be learned."""
  fit = lambda config, data, candidates, search, names: {"mmgrec": {**weights}}
  monkeypatch.setattr(rescored.rescoring, "fit", fit)


def test_each_system_is_a_row_and_mmgrec_is_tested_against_them(out, capsys):
  rescored.main(flags(out))
  found = json.loads((out / "rescored.json").read_text())["datasets"]["own"]
  assert list(found["systems"]) == ["mf", "embedding", "mmgrec"]
  pairs = [(test["system"], test["other"]) for test in found["tests"]]
  of_each_metric = [("mmgrec", "mf"), ("mmgrec", "embedding")]
  assert pairs == of_each_metric * 2
  results = json.loads((out / "own" / "mmgrec-0" / "results.json").read_text())
  ours = found["systems"]["mmgrec"]["test"]["recall@10"]["mean"]
  assert ours == results["test"]["mmgrec"]["recall@10"]
  again = found["systems"]["mf"]["test"]["recall@10"]["mean"]
  assert again == read(out, "mf")["test"]["mf"]["recall@10"]
  # Features and EASE, and in the place of beams the inner product, once.
  rescore = json.loads((out / "own" / "mmgrec-0" / "rescore.json").read_text())
  wanted = [*rescore["mmgrec"]]
  assert wanted[:2] == ["beams", "embedding"] and wanted[-1] == "ease"
  assert [*read(out, "mf")["weights"]] == ["vectors", *wanted[2:]]
  assert "| mf " in capsys.readouterr().out
  assert (out / "rescored-own.png").stat().st_size > 1000


def test_with_nothing_else_it_is_the_system_itself(out, monkeypatch):
  weighted_by(monkeypatch, beams=1.0)
  rescored.main(flags(out))
  for row, run in (("mf", "mf-0"), ("embedding", "mmgrec-0")):
    own = json.loads((out / "own" / run / "results.json").read_text())
    for split in ("valid", "test"):
      assert read(out, row)[split][row] == own[split][row]


def test_with_ease_alone_it_is_ease(out, monkeypatch):
  weighted_by(monkeypatch, beams=0.0, ease=1.0)
  rescored.main(flags(out, "mf"))
  ours = open_workdir(out / "own" / "mmgrec-0")
  data = ours.data
  matrix = read_matrix(ours.folder / "item_item.npz", "ease", data.n_items)
  x_UxI = np.zeros((data.n_users, data.n_items))
  x_UxI[data.edges(TRAIN)] = 1
  score_UxI = np.where(x_UxI > 0, -np.inf, x_UxI @ matrix["weight_IxI"])
  users = countable_users(data, "test")
  best_UxI = np.argsort(-score_UxI, axis=1, kind="stable")
  wanted = score_lists(best_UxI[users, :10], users, data, "test", [10])
  got = read_arrays(out / "own" / "rescored" / "mf-0" / "per_user.npz", "")
  np.testing.assert_allclose(got["test/mf/recall@10"], wanted["recall@10"])
  assert wanted["recall@10"].mean() > 0


def test_what_is_there_stays_until_its_run_is_made_again(out, monkeypatch):
  rescored.main(flags(out))
  scored, score_again = [], rescored.score_again
  monkeypatch.setattr(
    rescored,
    "score_again",
    lambda one: scored.append(one.again.row) or score_again(one),
  )
  rescored.main(flags(out))
  assert scored == []
  made = (out / "own" / "rescored" / "mf-0" / "results.json").stat().st_mtime
  os.utime(out / "own" / "mf-0" / "results.json", (made + 5, made + 5))
  rescored.main(flags(out))
  assert scored == ["mf"]


def test_a_missing_run_is_named(out, capsys):
  (out / "own" / "mf-0" / "results.json").unlink()
  with pytest.raises(SystemExit) as error:
    rescored.main(flags(out))
  assert error.value.code == 2
  said = capsys.readouterr().err
  assert "mf-0: not finished, as 1 of 2 runs; experiments.table2" in said
  assert not (out / "rescored.json").exists()
