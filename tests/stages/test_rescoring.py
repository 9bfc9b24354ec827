"""Beams mixed with h_u . h_i and EASE: what is tried, chosen and left out."""

import json

import numpy as np
import pytest

from mmgrec_jax.data.dataset import TRAIN
from mmgrec_jax.evaluation.evaluate import score_lists
from mmgrec_jax.serving.trained import open_workdir, reload_generator
from mmgrec_jax.stages import rankers, rescoring
from mmgrec_jax.training import parallel
from mmgrec_jax.workdir import Workdir

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture
def mixed(mmgrec_run, tmp_path):
  """Of settings: the run, its systems, and what rescore.json holds."""

  def of(shares, max_gib=1.0):
    run = open_workdir(mmgrec_run)
    run.config.evaluation.rescore = (0.0, 2.0)
    run.config.evaluation.ease.update(shares=shares, max_gib=max_gib)
    model, _, search = reload_generator(run)
    folder = Workdir(tmp_path / "mixed", run.config, run.data)
    systems = rescoring.rescored_beams(
      run.config, run.data, folder, model, search
    )
    return run, systems, json.loads((folder.path / "rescore.json").read_text())

  return of


def lists(systems, name, users):
  ranker, search = systems[name]
  return ranker(parallel.replicate(search), users)[0]


def test_each_mix_is_the_sum_of_standard_scores(mixed):
  run, systems, _ = mixed((0.0, 0.5))
  users = np.arange(run.data.n_users)
  ranker, search = systems["mmgrec"]
  search = search._replace(weight_J=np.array([0.5, 1.5], np.float32))
  items_UxK, got_UxK = ranker(parallel.replicate(search), users)
  plain = rankers.beam_ranker(
    run.config, run.data, reload_generator(run)[0], 30
  )
  beams = search._replace(weight_J=None)
  beams_UxK, score_UxK = plain(parallel.replicate(beams), users)
  ease_IxI = np.nan_to_num(np.asarray(search.ease_IxI))
  x_UxI = np.zeros((len(users), run.data.n_items))
  x_UxI[run.data.edges(TRAIN)] = 1
  h_UxI = np.asarray(search.vectors.user_UxD @ search.vectors.item_IxD.T)
  for user in users:
    own = beams_UxK[user][beams_UxK[user] >= 0]
    z = lambda s: (s - s.mean()) / max(s.std(), 1e-6)
    parts = (score_UxK[user, : len(own)], h_UxI[user, own],
             (x_UxI @ ease_IxI)[user, own])  # fmt: skip
    wanted = sum(w * z(s) for w, s in zip((1, 0.5, 1.5), parts, strict=True))
    np.testing.assert_allclose(
      got_UxK[user, : len(own)], np.sort(wanted)[::-1], atol=1e-3
    )
    assert set(items_UxK[user]) - {-1} == set(own)


def test_the_best_mix_on_validation_is_taken(mixed):
  run, systems, found = mixed((0.0, 0.5))
  assert list(systems) == ["generator", "without_ease", "mmgrec"]
  assert {share: list(by) for share, by in found.items()} == {
    "0.0": ["0.0", "2.0"],
    "0.5": ["0.0", "2.0"],
  }
  users = np.unique(run.data.edges(1)[0])
  recall = lambda name: score_lists(
    lists(systems, name, users), users, run.data, "valid", [10]
  )["recall@10"].mean()
  every = [r for by_weight in found.values() for r in by_weight.values()]
  assert recall("mmgrec") == pytest.approx(max(every))
  assert recall("without_ease") == pytest.approx(max(found["0.0"].values()))
  assert recall("generator") == pytest.approx(found["0.5"]["0.0"])


@pytest.mark.parametrize(
  ("shares", "max_gib", "says"),
  [((), 1.0, ""), ((0.0, 0.5), 1e-9, "without EASE: 30 items would take")],
)
def test_without_ease_there_is_h_alone(mixed, shares, max_gib, says, capsys):
  _, systems, found = mixed(shares, max_gib)
  assert says in capsys.readouterr().out
  assert list(systems) == ["generator", "mmgrec"] and list(found) == ["0.0"]
  assert len(systems["mmgrec"][1].weight_J) == 1


def test_a_share_of_0_needs_no_row_of_its_own_when_it_is_not_tried(mixed):
  _, systems, found = mixed((0.5,))
  assert list(systems) == ["generator", "mmgrec"] and list(found) == ["0.5"]
