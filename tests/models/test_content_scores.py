"""Scores of items by their features, against their definitions."""

import numpy as np
import pytest

from mmgrec_jax.models.content import (
  content_score,
  nearest_by_content,
  principal_components,
)

HISTORY_BxH = np.array([[0, 5, 9, -1], [-1, -1, -1, -1], [11, 2, 3, 7]])
ITEMS_BxK = np.array([[1, 7, 3, -1], [0, 1, 2, 4], [5, 6, 8, 10]])


@pytest.fixture
def x_IxF(rng):
  x_IxF = rng.normal(size=(12, 4)).astype(np.float32)
  x_IxF[3] = 0.0  # without features
  x_IxF[7] = 2 * x_IxF[5] + 0.1  # nearly the same direction
  return x_IxF


def by_definition(x_IxF, neighbours):
  """Weights, dense: rows add up to 1, or are NaN."""
  norm_I = np.linalg.norm(x_IxF, axis=1)
  unit_IxF = x_IxF / np.maximum(norm_I, 1e-12)[:, None]
  cosine_IxI = unit_IxF @ unit_IxF.T
  np.fill_diagonal(cosine_IxI, -np.inf)
  weight_IxI = np.zeros_like(cosine_IxI)
  for item, cosine_I in enumerate(cosine_IxI):
    near = np.argsort(-cosine_I)[:neighbours]
    weight_IxI[item, near] = np.maximum(cosine_I[near], 0)
  sum_Ix1 = weight_IxI.sum(axis=1, keepdims=True)
  return np.where(
    sum_Ix1 > 0, weight_IxI / np.where(sum_Ix1, sum_Ix1, 1), np.nan
  )


@pytest.mark.parametrize("neighbours", [1, 4, 30])
def test_a_score_is_the_weighted_share_of_the_nearest_that_a_user_has(
  x_IxF, neighbours
):
  rows = nearest_by_content(x_IxF, neighbours)
  got_BxK = content_score(rows, HISTORY_BxH, ITEMS_BxK)

  weight_IxI = by_definition(x_IxF, neighbours)
  for user, items_K in enumerate(ITEMS_BxK):
    has = [item for item in HISTORY_BxH[user] if item >= 0]
    for place, item in enumerate(items_K):
      if item >= 0:
        np.testing.assert_allclose(
          got_BxK[user, place], weight_IxI[item, has].sum(), atol=1e-5
        )
      if item == 3:
        assert np.isnan(got_BxK[user, place])


def test_items_of_one_genre_have_as_many_neighbours_as_others():
  rows = nearest_by_content(np.ones((9, 3), np.float32), 4)
  np.testing.assert_array_equal((rows.weight_RxC > 0).sum(axis=1), 4)
  np.testing.assert_allclose(rows.weight_RxC.max(axis=1), 1 / 4)


@pytest.mark.parametrize("of", [nearest_by_content, principal_components])
def test_the_order_of_items_does_not_matter(of, x_IxF, rng):
  history_1xH, items_1xK = np.array([[0, 5, 9]]), np.array([[1, 7, 4, 2]])
  place_I = rng.permutation(12)  # of an item in the other order
  other_IxF = np.empty_like(x_IxF)
  other_IxF[place_I] = x_IxF
  np.testing.assert_allclose(
    content_score(of(x_IxF, 3), history_1xH, items_1xK),
    content_score(of(other_IxF, 3), place_I[history_1xH], place_I[items_1xK]),
    atol=1e-5,
  )


def test_a_score_is_the_mean_cosine_about_the_mean_item(x_IxF):
  # With all components nothing is lost.
  y_IxC = principal_components(x_IxF, width=99)
  assert (y_IxC.shape, y_IxC.dtype) == ((12, 4), np.float32)
  got_BxK = content_score(y_IxC, HISTORY_BxH, ITEMS_BxK)

  centred_IxF = x_IxF - np.delete(x_IxF, 3, axis=0).mean(axis=0)
  centred_IxF[3] = 0.0
  norm_Ix1 = np.linalg.norm(centred_IxF, axis=1, keepdims=True)
  unit_IxF = centred_IxF / np.maximum(norm_Ix1, 1e-9)
  for user, items_K in enumerate(ITEMS_BxK):
    has = [item for item in HISTORY_BxH[user] if item >= 0]
    for place, item in enumerate(items_K):
      if item == 3:
        assert np.isnan(got_BxK[user, place])
      elif item >= 0:
        wanted = sum(unit_IxF[item] @ unit_IxF[other] for other in has)
        np.testing.assert_allclose(
          got_BxK[user, place], wanted / max(len(has), 1), atol=1e-5
        )


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_the_scale_of_the_features_does_not_matter(x_IxF, scale):
  np.testing.assert_allclose(
    principal_components(x_IxF * np.float32(scale), 2),
    principal_components(x_IxF, 2),
    atol=1e-5,
  )


def test_components_are_those_of_most_variance(rng):
  x_IxF = rng.normal(size=(20, 6)) * [5, 1, 4, 1, 1, 1] + 2
  y_IxC = principal_components(x_IxF, width=2)
  U, S, _ = np.linalg.svd(x_IxF - x_IxF.mean(axis=0), full_matrices=False)
  of_most_Ix2 = U[:, :2] * S[:2]
  of_most_Ix2 /= np.linalg.norm(of_most_Ix2, axis=1, keepdims=True)
  np.testing.assert_allclose(
    y_IxC @ y_IxC.T, of_most_Ix2 @ of_most_Ix2.T, atol=1e-5
  )


def test_more_items_leave_those_known_where_they_were(x_IxF, rng):
  more_JxF = np.concatenate([x_IxF, rng.normal(size=(5, 4)) - 9])
  known_J = np.arange(len(more_JxF)) < 12
  np.testing.assert_allclose(
    principal_components(more_JxF, 2, known_J)[:12],
    principal_components(x_IxF, 2),
    atol=1e-5,
  )


@pytest.mark.parametrize(
  "x_IxF", [np.zeros((4, 3)), np.ones((4, 3)), np.eye(4, 3, -3)]
)
def test_features_that_say_nothing_are_zeros(x_IxF):
  y_IxC = principal_components(x_IxF, 2)
  assert len(y_IxC) == 4 and not y_IxC.any()
  scores_1xK = content_score(y_IxC, np.array([[0, 1]]), np.array([[2, 3]]))
  assert np.isnan(scores_1xK).all()
