import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.data.dataset import TEST, TRAIN, VALID, Dataset
from mmgrec_jax.evaluation import evaluate
from mmgrec_jax.evaluation.ranking import Ranker, rank_by_inner_product
from mmgrec_jax.models import item_item
from mmgrec_jax.training import parallel


def inner_product(data, k, batch_size=16, history=None):
  recommend = lambda params, user, history, seen: rank_by_inner_product(
    *params, user, seen, k
  )
  rows = data.rows(TRAIN) if history is None else history
  return Ranker(recommend, rows, batch_size, seed=0)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_ranking_equals_numpy_for_any_batch(small_data, rng, batch_size):
  h_user = rng.normal(size=(40, 5)).astype(np.float32)
  h_item = rng.normal(size=(30, 5)).astype(np.float32)
  ranker = inner_product(small_data, 10, batch_size)
  users = np.array([3, 0, 17, 39, 20])
  items, scores = ranker(parallel.replicate((h_user, h_item)), users)
  exact = h_user @ h_item.T
  user, item = small_data.edges(TRAIN)
  exact[user, item] = -np.inf
  expected = np.argsort(-exact[users], axis=1)[:, :10]
  assert np.array_equal(items, expected)
  np.testing.assert_allclose(
    scores, np.take_along_axis(exact[users], expected, 1), atol=1e-5
  )


@pytest.mark.parametrize(
  "score",
  [
    lambda a: rank_by_inner_product(
      a, a, jnp.arange(4), -jnp.ones((4, 1), int), 2
    ),
    lambda a: item_item.score_by_all({"weight_IxI": a}, a),
  ],
)
def test_no_device_rounds_what_is_ranked_exactly(score):
  lowered = (
    jax.jit(score).trace(jnp.ones((4, 4))).lower(lowering_platforms=("tpu",))
  )
  (product,) = re.findall(r"stablehlo.dot_general.*", lowered.as_text())
  assert "precision = [HIGHEST, HIGHEST]" in product


def test_lists_longer_than_the_catalogue_end_in_padding(small_data, rng):
  h = [rng.normal(size=(n, 3)).astype(np.float32) for n in (40, 30)]
  items, scores = inner_product(small_data, 35)(
    parallel.replicate(tuple(h)), np.arange(40)
  )
  left = 30 - small_data.rows(TRAIN).lengths
  assert np.array_equal((items >= 0).sum(axis=1), left)
  assert np.array_equal(np.isfinite(scores), items >= 0)


def test_a_perfect_model_scores_one(small_data):
  user, item = small_data.edges(TEST)
  liked = np.zeros((40, 30), np.float32)
  liked[user, item] = 1
  params = parallel.replicate((liked, np.eye(30, dtype=np.float32)))
  out = evaluate.evaluate(
    inner_product(small_data, 20), params, small_data, "test", [10, 20]
  )
  assert all(v == pytest.approx(1) for v in out["recall@20"])
  assert out["ndcg@10"].mean() == pytest.approx(1)


def test_users_without_test_or_training_items_are_not_counted():
  data = Dataset(
    "odd",
    user_E=np.array([0, 0, 1, 1, 2, 3]),
    item_E=np.array([0, 1, 0, 2, 1, 2]),
    split_E=np.array([TRAIN, TEST, TRAIN, VALID, TEST, TRAIN]),
    features={"f": np.eye(3, dtype=np.float32)},
    user_ids=np.arange(4),
    item_ids=np.arange(3),
  )
  assert evaluate.countable_users(data, "test").tolist() == [0]
  assert evaluate.countable_users(data, "valid").tolist() == [1]


def test_validation_items_stay_candidates_at_test_time(small_data):
  user, item = small_data.edges(VALID)
  liked = np.zeros((40, 30), np.float32)
  liked[user, item] = 1
  items, _ = inner_product(small_data, 3)(
    parallel.replicate((liked, np.eye(30, dtype=np.float32))), np.arange(40)
  )
  assert all(i in items[u] for u, i in zip(user, item, strict=True))


@pytest.mark.parametrize("hides", [False, True])
def test_chance_equals_the_mean_of_random_rankings(small_data, rng, hides):
  hidden, ranker = None, inner_product(small_data, 10)
  if hides:
    hidden = small_data.rows(VALID)
    ranker = ranker.hiding(hidden)
  expected = evaluate.chance(small_data, "test", [10], hidden)
  got = []
  for _ in range(60):
    h_item = jnp.asarray(rng.normal(size=(30, 1)), jnp.float32)
    out = evaluate.evaluate(
      ranker,
      parallel.replicate((jnp.ones((40, 1)), h_item)),
      small_data,
      "test",
      [10],
    )
    got.append([out["recall@10"].mean(), out["ndcg@10"].mean()])
  mean, error = np.mean(got, 0), np.std(got, 0) / np.sqrt(60)
  assert abs(mean[0] - expected["recall@10"]) < 4 * error[0]
  assert abs(mean[1] - expected["ndcg@10"]) < 4 * error[1]


def test_item_order_of_a_history_is_fixed_but_not_sorted(small_data):
  shown = []

  def recommend(params, user, history, seen):
    return history[:, :5], jnp.zeros((len(user), 5))

  for _ in range(2):
    ranker = Ranker(recommend, small_data.rows(TRAIN), 8, seed=3)
    shown.append(ranker(jnp.zeros((4, 1)), np.arange(40))[0])
  assert np.array_equal(*shown)
  assert any((np.diff(row[row >= 0]) < 0).any() for row in shown[0])
  rows = small_data.rows(TRAIN)
  for u in range(40):
    own = rows.items[rows.offset[u] : rows.offset[u + 1]]
    assert set(shown[0][u]) - {-1} <= set(own)


def test_without_a_seed_histories_keep_their_order(small_data):
  rows = small_data.rows_newest_first(TRAIN)
  recommend = lambda params, user, history, seen: (history, history * 1.0)
  ranker = Ranker(recommend, rows, 8, seed=None, program_slots=10**9)
  items, _ = ranker(jnp.zeros((4, 1)), np.arange(40))
  assert len(ranker.bounds) == 1
  for u in range(40):
    own = rows.items[rows.offset[u] : rows.offset[u + 1]]
    assert np.array_equal(items[u][: len(own)], own)


def test_dataclass_is_frozen(small_data):
  with pytest.raises(dataclasses.FrozenInstanceError):
    small_data.name = "other"
