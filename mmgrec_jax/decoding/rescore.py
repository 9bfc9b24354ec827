"""Re-scoring: the beams' order mixed with that of another score."""

import jax
import jax.numpy as jnp


def rescore(
  items_BxK: jax.Array,
  score_BxK: jax.Array,
  other_BxK: jax.Array,
  weight: jax.Array | float,
) -> tuple[jax.Array, jax.Array]:
  """Orders each user's candidates by z(score) + weight * z(other).

  z is the standard score over a user's own candidates, so that one weight
  suits all users: log-probabilities and inner products have other scales.

  Args:
    items_BxK, score_BxK: what `beam_search` returned, -1 and -inf = none.
    other_BxK: another score of the same items.

  Returns:
    items and mixed scores, best first, again -1 and -inf at the end.
  """
  real_BxK = items_BxK >= 0
  mixed_BxK = _standard(score_BxK, real_BxK) + weight * _standard(
    other_BxK, real_BxK
  )
  mixed_BxK = jnp.where(real_BxK, mixed_BxK, -jnp.inf)
  mixed_BxK, place_BxK = jax.lax.top_k(mixed_BxK, items_BxK.shape[1])
  return jnp.take_along_axis(items_BxK, place_BxK, axis=1), mixed_BxK


def _standard(score_BxK: jax.Array, real_BxK: jax.Array) -> jax.Array:
  """Mean 0 and variance 1 over what is real; 0 elsewhere."""
  score_BxK = jnp.where(real_BxK, score_BxK, 0.0).astype(jnp.float32)
  count_Bx1 = jnp.maximum(real_BxK.sum(axis=1, keepdims=True), 1)
  mean_Bx1 = score_BxK.sum(axis=1, keepdims=True) / count_Bx1
  centred_BxK = jnp.where(real_BxK, score_BxK - mean_Bx1, 0.0)
  variance_Bx1 = (centred_BxK**2).sum(axis=1, keepdims=True) / count_Bx1
  return centred_BxK * jax.lax.rsqrt(variance_Bx1 + 1e-12)
