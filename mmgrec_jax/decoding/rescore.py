"""Re-scoring: the beams' order mixed with that of other scores."""

import jax
import jax.numpy as jnp
import numpy as np


def rescore(
  items_BxK: jax.Array,
  score_BxK: jax.Array,
  others_BxJxK: jax.Array,
  weight_J: jax.Array | np.ndarray,
) -> tuple[jax.Array, jax.Array]:
  """Orders each user's candidates by z(score) + sum_j weight_j * z(other_j).

  z is the standard score over a user's own candidates, so that one weight
  suits all users: log-probabilities and inner products have other scales.

  Args:
    items_BxK, score_BxK: what `beam_search` returned, -1 and -inf = none.
    others_BxJxK: J other scores of the same items. NaN: has nothing to say of
      an item, which then counts as an average one.

  Returns:
    items and mixed scores, best first, again -1 and -inf at the end.
  """
  real_BxK = items_BxK >= 0
  known_BxJxK = real_BxK[:, None] & ~jnp.isnan(others_BxJxK)
  others_BxJxK = _standard(others_BxJxK, known_BxJxK)
  mixed_BxK = _standard(score_BxK, real_BxK) + jnp.einsum(
    "bjk,j->bk", others_BxJxK, jnp.asarray(weight_J)
  )
  mixed_BxK = jnp.where(real_BxK, mixed_BxK, -jnp.inf)
  mixed_BxK, place_BxK = jax.lax.top_k(mixed_BxK, items_BxK.shape[1])
  return jnp.take_along_axis(items_BxK, place_BxK, axis=1), mixed_BxK


def _standard(score: jax.Array, real: jax.Array) -> jax.Array:
  """Of rows [..., K]: mean 0, variance 1 over what is real; 0 elsewhere."""
  score = jnp.where(real, score, 0.0).astype(jnp.float32)
  count = jnp.maximum(real.sum(axis=-1, keepdims=True), 1)
  mean = score.sum(axis=-1, keepdims=True) / count
  centred = jnp.where(real, score - mean, 0.0)
  variance = (centred**2).sum(axis=-1, keepdims=True) / count
  return centred * jax.lax.rsqrt(variance + 1e-12)
