"""Beams mixed with other scores: with what weights, and what is left out."""

import json

import jax
import numpy as np
import pytest

from mmgrec_jax.config import SCORES
from mmgrec_jax.data.dataset import TRAIN, VALID
from mmgrec_jax.evaluation.evaluate import countable_users
from mmgrec_jax.nn.nearest import SparseRows
from mmgrec_jax.serving.trained import open_workdir, reload_generator
from mmgrec_jax.stages import rankers, rescoring
from mmgrec_jax.training import parallel
from mmgrec_jax.workdir import Workdir

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture
def mixed(mmgrec_run, tmp_path):
  """Of scores: the run, its systems, and what rescore.json holds."""

  def of(*scores, max_gib=1.0):
    run = open_workdir(mmgrec_run)
    run.config.evaluation.rescore.scores = scores
    run.config.evaluation.rescore.ease.max_gib = max_gib
    model, _, search = reload_generator(run)
    folder = Workdir(tmp_path / "mixed", run.config, run.data)
    systems = rescoring.rescored_beams(
      run.config, run.data, folder, model, search
    )
    return run, systems, json.loads((folder.path / "rescore.json").read_text())

  return of


def test_each_mix_is_the_sum_of_standard_scores(mixed):
  run, systems, _ = mixed(*SCORES)
  users = np.arange(run.data.n_users)
  ranker, search = systems["mmgrec"]
  weight_J = np.array([1.0, 0.5, 0.8, 0.3, 0.2, 0.1, 1.5], np.float32)
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
    of_part = zip(weight_J, parts, strict=True)
    wanted = sum(w * z(s) for w, s in of_part)
    np.testing.assert_allclose(
      got_UxK[user, : len(own)], np.sort(wanted)[::-1], atol=1e-3
    )
    assert set(items_UxK[user]) - {-1} == set(own)


def test_the_weights_are_those_of_what_validation_chose(mixed):
  run, systems, found = mixed(*SCORES)
  assert list(systems) == ["generator", *found]
  assert list(found) == ["without_ease", "mmgrec"]
  names = [
    "beams", "embedding",
    *(f"{m} {s}" for m in ("text", "visual") for s in ("nearest", "profile")),
    "ease",
  ]  # fmt: skip
  assert [*found["mmgrec"]] == names
  assert [*found["without_ease"]] == names[:-1]
  for system, mix in {"generator": {"beams": 1.0}, **found}.items():
    weight_J = [mix.get(name, 0.0) for name in names]
    np.testing.assert_allclose(systems[system][1].weight_J, weight_J)

  users = countable_users(run.data, "valid")
  ranker, search = systems["mmgrec"]
  chance = lambda **weights: log_chance(
    run.data, users, ranker, search, names, {**found["mmgrec"], **weights}
  )
  best = chance()
  for name, weight in found["mmgrec"].items():
    for other in (weight - 0.3, weight + 0.3):
      assert chance(**{name: other}) < best


def log_chance(data, users, ranker, search, names, mix):
  """Of what users have chosen, and of such weights beforehand."""
  weight_J = np.array([mix[name] for name in names], np.float32)
  search = search._replace(weight_J=weight_J)
  items_NxK, mixed_NxK = ranker(parallel.replicate(search), users)
  total = -((weight_J - np.eye(len(names))[0]) ** 2).sum() / 2
  chosen = set(zip(*data.edges(VALID), strict=True))
  log_p_NxK = jax.nn.log_softmax(mixed_NxK, axis=1)
  for user, items_K, log_p_K in zip(users, items_NxK, log_p_NxK, strict=True):
    hit_K = np.array([(user, item) in chosen for item in items_K])
    total += log_p_K[hit_K].sum()
  return total


@pytest.mark.parametrize(
  ("scores", "max_gib", "names"),
  [
    (("embedding",), 1.0, ["beams", "embedding"]),
    (("embedding", "ease"), 1e-9, ["beams", "embedding"]),
    (("profile",), 1.0, ["beams", "text profile", "visual profile"]),
  ],
)
def test_without_ease_there_is_one_mix(mixed, scores, max_gib, names, capsys):
  _, systems, found = mixed(*scores, max_gib=max_gib)
  too_large = "without EASE: 30 items would take" in capsys.readouterr().out
  assert too_large == (max_gib < 1)
  assert list(systems) == ["generator", "mmgrec"]
  assert list(found) == ["mmgrec"]
  assert list(found["mmgrec"]) == names
  if "embedding" not in scores:
    assert systems["mmgrec"][1].weight_J[1] == 0


def test_a_run_that_goes_on_has_the_weights_that_it_had(mixed, mmgrec_run):
  run, systems, _ = mixed("embedding")
  folder = Workdir(mmgrec_run.parent / "again", run.config, run.data)
  folder.write_json("rescore.json", {"mmgrec": {"beams": 0.5}})
  model, _, search = reload_generator(run)
  of = rescoring.rescored_beams(run.config, run.data, folder, model, search)
  assert of["mmgrec"][1].weight_J.tolist() == [0.5, 0.0]


def test_weights_are_learned_from_some_of_many_users(mixed, monkeypatch):
  learned_from = []

  def fit_weights(z_NxJxK, hit_NxK, real_NxK):
    learned_from.append(len(z_NxJxK))
    return np.array([1.0, 0.0])

  monkeypatch.setattr(rescoring, "fit_weights", fit_weights)
  monkeypatch.setattr(rescoring, "USERS", 7)
  run, _, _ = mixed("embedding")
  n_users = len(countable_users(run.data, "valid"))
  assert learned_from == [len(range(0, n_users, -(-n_users // 7)))]
  assert 3 < learned_from[0] <= 7 < n_users
