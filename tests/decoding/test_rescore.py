"""Re-scoring mixes two orders of the same candidates and adds none."""

import numpy as np
import pytest

from mmgrec_jax.decoding.rescore import rescore


@pytest.fixture
def candidates(rng):
  items = np.argsort(rng.random((6, 20)), axis=1)[:, :8].astype(np.int32)
  score = -np.sort(-rng.normal(size=(6, 8)), axis=1).astype(np.float32)
  other = rng.normal(size=(6, 1, 8)).astype(np.float32)
  for user, n in enumerate((8, 5, 2, 1, 0, 8)):
    items[user, n:], score[user, n:] = -1, -np.inf
  return items, score, other


def mix(items, score, others, *weights):
  return rescore(items, score, others, np.array(weights, np.float32))


def test_weight_0_keeps_the_beams_order(candidates):
  items, score, other = candidates
  np.testing.assert_array_equal(mix(items, score, other, 0.0)[0], items)


def test_a_large_weight_gives_the_other_order(candidates):
  items, score, other = candidates
  out, _ = mix(items, score, other, 1e6)
  for user in range(len(items)):
    n = (items[user] >= 0).sum()
    best_first = np.argsort(-other[user, 0, :n])
    np.testing.assert_array_equal(out[user, :n], items[user, best_first])


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0])
def test_scores_are_the_sum_of_standard_scores_over_what_is_there(
  candidates, weight
):
  items, score, other = candidates
  third = np.flip(other, axis=2) ** 2
  out, mixed = mix(items, score, np.append(other, third, 1), weight, 0.7)
  for user in range(len(items)):
    n = (items[user] >= 0).sum()
    z = lambda x: (x - x.mean()) / max(x.std(), 1e-6)
    if n:
      wanted = z(score[user, :n]) + weight * z(other[user, 0, :n])
      wanted += 0.7 * z(third[user, 0, :n])
      order = np.argsort(-wanted, kind="stable")
      np.testing.assert_allclose(mixed[user, :n], wanted[order], atol=1e-5)
      np.testing.assert_array_equal(out[user, :n], items[user, :n][order])
    assert (np.asarray(out[user, n:]) == -1).all()
    assert np.isneginf(mixed[user, n:]).all()


def test_neither_scale_nor_shift_of_either_score_matters(candidates):
  items, score, other = candidates
  one = mix(items, score, other, 0.7)[0]
  two = mix(items, 100 * score - 3, 0.01 * other + 5, 0.7)[0]
  np.testing.assert_array_equal(one, two)


def test_an_item_that_a_score_does_not_know_counts_as_an_average_one(
  candidates,
):
  items, score, other = candidates
  unknown = other.copy()
  unknown[0, 0, 3] = np.nan
  out, mixed = mix(items, score, unknown, 2.0)
  place = list(out[0]).index(items[0, 3])
  z = (score[0, 3] - score[0].mean()) / score[0].std()
  assert mixed[0, place] == pytest.approx(z, abs=1e-5)
  # The others are as if it had not been there.
  rest = np.delete(np.arange(8), 3)
  known = other[0, 0, rest]
  wanted = 2 * (known - known.mean()) / known.std()
  wanted += ((score[0] - score[0].mean()) / score[0].std())[rest]
  got = dict(zip(np.asarray(out[0]), np.asarray(mixed[0]), strict=True))
  np.testing.assert_allclose(
    [got[i] for i in items[0, rest]], wanted, atol=1e-5
  )
