"""Means over histories."""

import jax
import jax.numpy as jnp


def mean_of_history(h_IxD: jax.Array, history_BxH: jax.Array) -> jax.Array:
  """Mean row of histories (-1 = padding), [B, D]; zeros of an empty one."""
  real_BxHx1 = (history_BxH >= 0)[..., None]
  h_BxHxD = h_IxD[jnp.maximum(history_BxH, 0)]
  total_BxD = jnp.where(real_BxHx1, h_BxHxD, 0).sum(axis=1)
  return total_BxD / jnp.maximum(real_BxHx1.sum(axis=1), 1)
