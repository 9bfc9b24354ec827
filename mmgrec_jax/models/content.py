"""How alike an item is to what a user has, by features alone.

Of one modality, the score of an item is the share of its nearest others that
the user has, each counted by its cosine: item-kNN (Sarwar et al. 2001) on
features in the place of users. It sees what vectors of a few dimensions smooth
over, and items that nobody has yet like any others.
"""

import jax
import jax.numpy as jnp

from mmgrec_jax.models import collaborative as cf
from mmgrec_jax.models.item_item import zeros_and_ones
from mmgrec_jax.nn.nearest import SparseRows, most_alike


def nearest_by_content(x_IxF: jax.Array, neighbours: int) -> SparseRows:
  """Each item's most alike others, weights that add up to 1.

  Returns:
    float32 weights, 0 where fewer have a positive cosine; NaN, all of them,
    where none has.
  """
  alike = most_alike(cf.normalise(x_IxF), neighbours + 1)
  other_IxC = alike.index_RxC != jnp.arange(len(x_IxF))[:, None]
  weight_IxC = jnp.where(other_IxC, jnp.maximum(alike.weight_RxC, 0.0), 0.0)
  return SparseRows(
    alike.index_RxC, weight_IxC / weight_IxC.sum(axis=1, keepdims=True)
  )


def share_of_nearest(
  rows: SparseRows, history_BxH: jax.Array, items_BxK: jax.Array
) -> jax.Array:
  """The score of some items of each user, from 0 to 1. [B, K].

  Args:
    rows: of `nearest_by_content`.
    history_BxH: items, -1 = padding.
    items_BxK: of -1, any number comes back.
  """
  x_BxI = zeros_and_ones(history_BxH, len(rows.index_RxC))

  def of_user(x_I, items_K):
    return (rows.weight_RxC[items_K] * x_I[rows.index_RxC[items_K]]).sum(axis=1)

  return jax.vmap(of_user)(x_BxI, jnp.maximum(items_BxK, 0))
