"""Re-scoring mixes two orders of the same candidates and adds none."""

import numpy as np
import pytest

from mmgrec_jax.decoding.rescore import rescore


@pytest.fixture
def candidates(rng):
  items = np.argsort(rng.random((6, 20)), axis=1)[:, :8].astype(np.int32)
  score = -np.sort(-rng.normal(size=(6, 8)), axis=1).astype(np.float32)
  other = rng.normal(size=(6, 8)).astype(np.float32)
  for user, n in enumerate((8, 5, 2, 1, 0, 8)):
    items[user, n:], score[user, n:] = -1, -np.inf
  return items, score, other


def test_weight_0_keeps_the_beams_order(candidates):
  items, score, other = candidates
  np.testing.assert_array_equal(rescore(items, score, other, 0.0)[0], items)


def test_a_large_weight_gives_the_other_order(candidates):
  items, score, other = candidates
  out, _ = rescore(items, score, other, 1e6)
  for user in range(len(items)):
    n = (items[user] >= 0).sum()
    best_first = np.argsort(-other[user, :n])
    np.testing.assert_array_equal(out[user, :n], items[user, best_first])


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0])
def test_scores_are_the_sum_of_standard_scores_over_what_is_there(
  candidates, weight
):
  items, score, other = candidates
  out, mixed = rescore(items, score, other, weight)
  for user in range(len(items)):
    n = (items[user] >= 0).sum()
    z = lambda x: (x - x.mean()) / max(x.std(), 1e-6)
    if n:
      wanted = z(score[user, :n]) + weight * z(other[user, :n])
      order = np.argsort(-wanted, kind="stable")
      np.testing.assert_allclose(mixed[user, :n], wanted[order], atol=1e-5)
      np.testing.assert_array_equal(out[user, :n], items[user, :n][order])
    assert (np.asarray(out[user, n:]) == -1).all()
    assert np.isneginf(mixed[user, n:]).all()


def test_neither_scale_nor_shift_of_either_score_matters(candidates):
  items, score, other = candidates
  one = rescore(items, score, other, 0.7)[0]
  two = rescore(items, 100 * score - 3, 0.01 * other + 5, 0.7)[0]
  np.testing.assert_array_equal(one, two)
