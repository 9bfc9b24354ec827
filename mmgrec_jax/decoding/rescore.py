"""Re-scoring: candidates ordered by a weighted sum of several scores."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp


def rescore(
  items_BxK: jax.Array,
  scores_BxJxK: jax.Array,
  weight_J: jax.Array | np.ndarray,
) -> tuple[jax.Array, jax.Array]:
  """Orders each user's candidates by sum_j weight_j * z(score_j).

  z is the standard score over a user's own candidates, so that one weight
  suits all users: log-probabilities and inner products have other scales.

  Args:
    items_BxK: what `beam_search` returned, -1 = none.
    scores_BxJxK: as of `standard_scores`.

  Returns:
    items and mixed scores, best first, -1 and -inf at the end.
  """
  z_BxJxK = standard_scores(items_BxK, scores_BxJxK)
  mixed_BxK = jnp.einsum("bjk,j->bk", z_BxJxK, jnp.asarray(weight_J))
  mixed_BxK = jnp.where(items_BxK >= 0, mixed_BxK, -jnp.inf)
  mixed_BxK, place_BxK = jax.lax.top_k(mixed_BxK, items_BxK.shape[1])
  return jnp.take_along_axis(items_BxK, place_BxK, axis=1), mixed_BxK


def standard_scores(items_BxK: jax.Array, scores_BxJxK: jax.Array) -> jax.Array:
  """J scores of each user's candidates: mean 0, variance 1. [B, J, K].

  Args:
    items_BxK: -1 = none.
    scores_BxJxK: NaN: has nothing to say of an item, which then counts as an
      average one.
  """
  known_BxJxK = (items_BxK >= 0)[:, None] & ~jnp.isnan(scores_BxJxK)
  score = jnp.where(known_BxJxK, scores_BxJxK, 0.0).astype(jnp.float32)
  count = jnp.maximum(known_BxJxK.sum(axis=-1, keepdims=True), 1)
  mean = score.sum(axis=-1, keepdims=True) / count
  centred = jnp.where(known_BxJxK, score - mean, 0.0)
  variance = (centred**2).sum(axis=-1, keepdims=True) / count
  return centred * jax.lax.rsqrt(variance + 1e-12)


def fit_weights(
  z_NxJxK: np.ndarray, hit_NxK: np.ndarray, real_NxK: np.ndarray
) -> np.ndarray:
  """Weights that make what users chose most likely. float64 [J].

  Conditional logit (McFadden 1974): a user chooses a candidate with a chance
  that is the softmax of the mixed score over all of theirs, and each hit is one
  such choice. Weights are normal beforehand, with variance 1, the first about
  1 and the others about 0: with nothing to learn from, the first score alone.

  Args:
    z_NxJxK: of `standard_scores`.
    hit_NxK: bool, what was chosen.
    real_NxK: bool, which candidates there are.
  """
  before_J = np.eye(z_NxJxK.shape[1])[0]
  some_N = hit_NxK.any(axis=1)
  z_NxJxK, hit_NxK = z_NxJxK[some_N].astype(float), hit_NxK[some_N]
  never_NxK = np.where(real_NxK[some_N], 0.0, -np.inf)
  hits_Nx1 = hit_NxK.sum(axis=1, keepdims=True)

  def loss_and_gradient(weight_J):
    mixed_NxK = np.einsum("njk,j->nk", z_NxJxK, weight_J) + never_NxK
    log_p_NxK = mixed_NxK - logsumexp(mixed_NxK, axis=1, keepdims=True)
    too_much_NxK = hits_Nx1 * np.exp(log_p_NxK) - hit_NxK
    away_J = weight_J - before_J
    gradient_J = np.einsum("njk,nk->j", z_NxJxK, too_much_NxK) + away_J
    return (away_J @ away_J) / 2 - log_p_NxK[hit_NxK].sum(), gradient_J

  return minimize(loss_and_gradient, before_J, jac=True, method="L-BFGS-B").x
