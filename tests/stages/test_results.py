"""A run that is told to score validation alone never looks at the test."""

import json

import numpy as np
import pytest

from mmgrec_jax import pipeline
from mmgrec_jax.config import default_config
from mmgrec_jax.data.dataset import VALID
from mmgrec_jax.errors import UserError
from mmgrec_jax.serving.trained import open_workdir, reload_generator
from mmgrec_jax.stages import results
from mmgrec_jax.training import parallel
from mmgrec_jax.workdir import Workdir


def scores_validation_alone(workdir, system):
  results = json.loads((workdir / "results.json").read_text())
  with np.load(workdir / "per_user.npz") as saved:
    splits = {key.split("/")[0] for key in saved}
  return (
    "test" not in results
    and "test_users_counted" not in results["dataset"]
    and system in results["valid"]
    and splits == {"valid"}
  )


@pytest.fixture
def run_mf(no_test, tmp_path, monkeypatch, one_device):
  """Runs mf where a look at the test split is an error; the workdir."""
  monkeypatch.setattr(pipeline.load, "load_data", lambda config: no_test)

  def run(splits):
    config = default_config("mf")
    config.width, config.model.epochs = 8, 2
    config.evaluation.update(cutoffs=(10,), splits=splits)
    pipeline.run(config, tmp_path / "w")
    return tmp_path / "w"

  return run


def test_a_run_without_the_test_split_asks_nothing_about_it(run_mf, capsys):
  assert scores_validation_alone(run_mf(("valid",)), "mf")
  shown = capsys.readouterr().out
  assert "Validation, mean over" in shown
  assert "in the user's validation items" in shown


def test_nor_does_mmgrec(mmgrec_run):
  assert scores_validation_alone(mmgrec_run, "mmgrec")


def test_validation_items_can_be_no_candidates_in_the_test(
  mmgrec_run, tmp_path, one_device
):
  run = open_workdir(mmgrec_run)
  data, config = run.data, run.config
  model, _, search = reload_generator(run)
  everything = data.n_items
  config.evaluation.update(
    splits=("valid", "test"), cutoffs=(10, everything), beam_width=everything
  )

  def lists(exclude):
    config.evaluation.exclude_validation = exclude
    folder = Workdir(tmp_path / str(exclude), config, data)
    popular = results.popularity_vectors(data)
    systems = {
      "popularity": pipeline.inner_product_system(config, data, popular),
      "mmgrec": pipeline.beam_system(config, data, model, search),
    }
    scores = results.report_results(config, data, folder, systems)
    with np.load(folder.path / "per_user.npz") as saved:
      return scores, dict(saved)

  (usual_scores, usual), (scores, found) = lists(False), lists(True)
  assert scores["valid"] == usual_scores["valid"]
  assert scores["test"]["mmgrec"] != usual_scores["test"]["mmgrec"]
  chosen = data.rows(VALID)
  for system in ("popularity", "mmgrec"):
    name = f"test/{system}/items"
    for user, items, before in zip(
      found["test/users"], found[name], usual[name], strict=True
    ):
      left = before[~np.isin(before, [-1, *chosen.of(user)])]
      assert items[items >= 0].tolist() == left.tolist()


def test_the_usual_run_does_look(run_mf):
  with pytest.raises(AssertionError) as looked:
    run_mf(("valid", "test"))
  assert looked.typename == "LookedAtTest"


def test_what_systems_share_is_placed_once():
  shared, own = np.ones(5), (np.zeros(2), np.zeros(2))
  systems = {"beams": (shared, own[0]), "mmgrec": (shared, own[1])}
  placed = parallel.replicate_once(systems)
  assert placed["beams"][0] is placed["mmgrec"][0]
  assert placed["beams"][1] is not placed["mmgrec"][1]
  np.testing.assert_array_equal(placed["mmgrec"][0], np.ones((4, 5)))


def test_tensorboard_without_its_package_is_refused_at_once(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(pipeline.importlib.util, "find_spec", lambda name: None)
  with pytest.raises(UserError, match=r"pip install 'mmgrec-jax.tensorboard.'"):
    pipeline.run(default_config("mf"), tmp_path / "w", tensorboard=True)
  assert not (tmp_path / "w").exists()
