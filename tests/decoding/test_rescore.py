"""Re-scoring mixes orders of the same candidates and adds none."""

import numpy as np
import pytest

from mmgrec_jax.decoding.rescore import fit_weights, rescore


@pytest.fixture
def candidates(rng):
  items = np.argsort(rng.random((6, 20)), axis=1)[:, :8].astype(np.int32)
  score = -np.sort(-rng.normal(size=(6, 8)), axis=1).astype(np.float32)
  other = rng.normal(size=(6, 1, 8)).astype(np.float32)
  for user, n in enumerate((8, 5, 2, 1, 0, 8)):
    items[user, n:], score[user, n:] = -1, -np.inf
  return items, score, other


def mix(items, score, others, *weights):
  """The beams' score has weight 1."""
  scores = np.append(score[:, None], others, axis=1)
  return rescore(items, scores, np.array((1, *weights), np.float32))


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


@pytest.fixture
def choices(rng):
  """Weights, scores, and what each user chose: a softmax of their mix."""
  weight_J = np.array([0.3, 1.2, -0.4])
  z_NxJxK = rng.normal(size=(5000, 3, 20)).astype(np.float32)
  real_NxK = np.arange(20)[None] < rng.integers(1, 21, (5000, 1))
  # The largest of these sums is a draw from the softmax (Gumbel).
  drawn_NxK = np.einsum("njk,j->nk", z_NxJxK, weight_J)
  drawn_NxK += rng.gumbel(size=drawn_NxK.shape)
  chosen_N = np.where(real_NxK, drawn_NxK, -np.inf).argmax(axis=1)
  return weight_J, z_NxJxK, np.eye(20, dtype=bool)[chosen_N], real_NxK


def test_weights_of_choices_are_found_again(choices):
  weight_J, *of_users = choices
  np.testing.assert_allclose(fit_weights(*of_users), weight_J, atol=0.05)


def test_what_was_not_chosen_from_says_nothing(choices):
  _, z_NxJxK, hit_NxK, real_NxK = choices
  hit_NxK[2500:] = False
  few = (z_NxJxK[:2500], hit_NxK[:2500], real_NxK[:2500])
  np.testing.assert_allclose(
    fit_weights(z_NxJxK, hit_NxK, real_NxK), fit_weights(*few), atol=1e-4
  )
  nowhere_NxJxK = np.where(real_NxK[:, None], z_NxJxK, 1e3)
  np.testing.assert_allclose(
    fit_weights(nowhere_NxJxK, hit_NxK, real_NxK), fit_weights(*few), atol=1e-4
  )


def test_without_choices_the_beams_stay_as_they_are(choices):
  _, z_NxJxK, hit_NxK, real_NxK = choices
  nothing = np.zeros_like(hit_NxK)
  assert fit_weights(z_NxJxK, nothing, real_NxK).tolist() == [1, 0, 0]
  none = (z_NxJxK[:0], nothing[:0], real_NxK[:0])
  assert fit_weights(*none).tolist() == [1, 0, 0]


def test_two_hits_of_a_user_are_two_choices(choices):
  _, z_NxJxK, hit_NxK, real_NxK = choices
  two = np.flatnonzero(real_NxK.sum(axis=1) > 1)[:200]
  z_NxJxK, real_NxK = z_NxJxK[two], real_NxK[two]
  first, second = np.eye(20, dtype=bool)[:2]
  both_NxK = np.repeat([first | second], len(two), axis=0)
  each_2NxK = np.repeat([first, second], len(two), axis=0)
  twice = lambda a: np.concatenate([a, a])
  np.testing.assert_allclose(
    fit_weights(z_NxJxK, both_NxK, real_NxK),
    fit_weights(twice(z_NxJxK), each_2NxK, twice(real_NxK)),
    atol=1e-4,
  )
