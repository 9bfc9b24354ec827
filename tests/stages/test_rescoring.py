"""Beams mixed with other scores: what is tried, chosen and left out."""

import json
from typing import Any

import numpy as np
import pytest

from mmgrec_jax.config import default_config
from mmgrec_jax.data.dataset import TRAIN
from mmgrec_jax.evaluation.evaluate import score_lists
from mmgrec_jax.nn.nearest import SparseRows
from mmgrec_jax.serving.trained import open_workdir, reload_generator
from mmgrec_jax.stages import rankers, rescoring
from mmgrec_jax.training import parallel
from mmgrec_jax.workdir import Workdir

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture
def mixed(mmgrec_run, tmp_path):
  """Of settings: the run, its systems, and what rescore.json holds."""

  def of(shares, max_gib=1.0, content=()):
    run = open_workdir(mmgrec_run)
    run.config.evaluation.rescore = (0.0, 2.0)
    run.config.evaluation.content.shares = content
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
  run, systems, _ = mixed((0.0, 0.5), content=(0.0, 0.3))
  users = np.arange(run.data.n_users)
  ranker, search = systems["mmgrec"]
  weight_J = np.array([0.5, 0.8, 0.3, 0.2, 0.1, 1.5], np.float32)
  search = search._replace(weight_J=weight_J)
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
  has_Ux1 = np.maximum(x_UxI.sum(axis=1, keepdims=True), 1)
  each_Ix1 = np.arange(run.data.n_items)[:, None]
  alike = []
  for of in search.content:
    if isinstance(of, SparseRows):
      alike_IxI = np.zeros((run.data.n_items, run.data.n_items))
      alike_IxI[each_Ix1, of.index_RxC] = of.weight_RxC
      alike.append(x_UxI @ alike_IxI.T)
    else:
      alike.append(x_UxI / has_Ux1 @ of @ of.T)
  assert len(alike) == 4
  of_items = (h_UxI, *alike, x_UxI @ ease_IxI)
  for user in users:
    own = beams_UxK[user][beams_UxK[user] >= 0]
    z = lambda s: (s - s.mean()) / max(s.std(), 1e-6)
    parts = [score_UxK[user, : len(own)], *(s[user, own] for s in of_items)]
    of_part = zip((1, *weight_J), parts, strict=True)
    wanted = sum(w * z(s) for w, s in of_part)
    np.testing.assert_allclose(
      got_UxK[user, : len(own)], np.sort(wanted)[::-1], atol=1e-3
    )
    assert set(items_UxK[user]) - {-1} == set(own)


def test_the_best_mix_on_validation_is_taken(mixed):
  run, systems, found = mixed((0.0, 0.5), content=(0.0, 0.3))
  assert list(systems) == ["generator", "without_ease", "mmgrec"]
  first, *alike, last = found
  assert (first, last) == ("embedding", "ease")
  assert sorted(alike) == [
    f"{modality} {score}"
    for modality in ("text", "visual")
    for score in ("nearest", "profile")
  ]
  assert {name: list(tried) for name, tried in found.items()} == {
    "embedding": ["1.0"],
    **dict.fromkeys(alike, ["0.0", "0.3"]),
    "ease": ["0.0", "0.5"],
  }
  for tried in found.values():
    assert all(list(by) == ["0.0", "2.0"] for by in tried.values())
  users = np.unique(run.data.edges(1)[0])
  recall = lambda name: score_lists(
    lists(systems, name, users), users, run.data, "valid", [10]
  )["recall@10"].mean()
  best = {
    name: max(max(by_weight.values()) for by_weight in tried.values())
    for name, tried in found.items()
  }
  assert list(best.values()) == sorted(best.values())
  assert recall("mmgrec") == pytest.approx(best["ease"])
  assert recall("without_ease") == pytest.approx(best[alike[-1]])
  assert recall("generator") == pytest.approx(found["ease"]["0.5"]["0.0"])


def test_each_takes_its_share_of_the_mix_of_those_before_it():
  found = {
    "embedding": {"1.0": {"2.0": 0.3, "4.0": 0.3}},
    "text nearest": {"0.0": {"4.0": 0.3}, "0.2": {"8.0": 0.4}},
    "ease": {"0.0": {"4.0": 0.4}, "0.5": {"4.0": 0.5, "6.0": 0.4}},
  }
  of_first = lambda n: [
    *rescoring.weights(dict(list(found.items())[:n])).values()
  ]
  np.testing.assert_allclose(of_first(1), [2])
  np.testing.assert_allclose(of_first(2), [6.4, 1.6])
  np.testing.assert_allclose(of_first(3), [1.6, 0.4, 2])


@pytest.mark.parametrize(
  ("shares", "max_gib", "says"),
  [((), 1.0, ""), ((0.0, 0.5), 1e-9, "without EASE: 30 items would take")],
)
def test_without_ease_there_is_h_alone(mixed, shares, max_gib, says, capsys):
  _, systems, found = mixed(shares, max_gib)
  assert says in capsys.readouterr().out
  assert list(systems) == ["generator", "mmgrec"]
  assert list(found) == ["embedding"]
  assert len(systems["mmgrec"][1].weight_J) == 1


def test_the_modality_that_helps_most_joins_first(monkeypatch):
  names = ["embedding", "a nearest", "b profile", "ease"]

  def recall(weight_J):
    of = dict(zip(names, weight_J, strict=True))
    return 0.1 * of["a nearest"] + 2 * of["b profile"] - 3 * of["ease"]

  monkeypatch.setattr(rescoring, "_validation", lambda *_: recall)
  config = default_config()
  config.evaluation.rescore = (1.0,)
  config.evaluation.content.shares = (0.0, 0.25)
  nothing: Any = None
  found = rescoring._recall_by_mix(config, nothing, nothing, nothing, names)
  assert list(found) == ["embedding", "b profile", "a nearest", "ease"]
  assert rescoring.weights(found) == {
    "embedding": 0.75, "b profile": 0.25, "a nearest": 0.0, "ease": 0.0
  }  # fmt: skip
