"""How alike items are by their features, against its definition."""

import numpy as np
import pytest

from mmgrec_jax.models.content import nearest_by_content, share_of_nearest


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
  history_BxH = np.array([[0, 5, 9, -1], [-1, -1, -1, -1], [11, 2, 3, 7]])
  items_BxK = np.array([[1, 7, 3, -1], [0, 1, 2, 4], [5, 6, 8, 10]])
  rows = nearest_by_content(x_IxF, neighbours)
  got_BxK = share_of_nearest(rows, history_BxH, items_BxK)

  weight_IxI = by_definition(x_IxF, neighbours)
  for user, items_K in enumerate(items_BxK):
    has = [item for item in history_BxH[user] if item >= 0]
    for place, item in enumerate(items_K):
      if item >= 0:
        np.testing.assert_allclose(
          got_BxK[user, place], weight_IxI[item, has].sum(), atol=1e-5
        )
      if item == 3:
        assert np.isnan(got_BxK[user, place])


def test_the_order_of_items_does_not_matter(x_IxF, rng):
  history_1xH, items_1xK = np.array([[0, 5, 9]]), np.array([[1, 7, 4, 2]])
  place_I = rng.permutation(12)  # of an item in the other order
  other_IxF = np.empty_like(x_IxF)
  other_IxF[place_I] = x_IxF
  np.testing.assert_allclose(
    share_of_nearest(nearest_by_content(x_IxF, 3), history_1xH, items_1xK),
    share_of_nearest(
      nearest_by_content(other_IxF, 3), place_I[history_1xH], place_I[items_1xK]
    ),
    atol=1e-6,
  )
