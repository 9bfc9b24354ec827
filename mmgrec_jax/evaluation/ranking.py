"""Users to top items: one way for embedding models and generators.

A recommend function is `(params, user_B, history_BxH) -> items_BxK,
scores_BxK` on the device; history holds all training items of a user, -1 =
padding last, in a fixed random order; none of them may be returned.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmgrec_jax.data.dataset import Rows
from mmgrec_jax.training import parallel

Recommend = Callable[[Any, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def rank_by_inner_product(
  h_user_UxD: jax.Array,
  h_item_IxD: jax.Array,
  user_B: jax.Array,
  history_BxH: jax.Array,
  k: int,
) -> tuple[jax.Array, jax.Array]:
  """Exact top k of h_u . h_i over unseen items; -1 and -inf where too few."""
  n_items = len(h_item_IxD)
  scores_BxI = h_user_UxD[user_B] @ h_item_IxD.T
  rows_Bx1 = jnp.arange(len(user_B))[:, None]
  seen_BxH = jnp.where(history_BxH >= 0, history_BxH, n_items)
  scores_BxI = scores_BxI.at[rows_Bx1, seen_BxH].set(-jnp.inf, mode="drop")
  # A list longer than the catalogue ends in padding.
  missing = max(k - n_items, 0)
  scores_BxI = jnp.pad(
    scores_BxI, [(0, 0), (0, missing)], constant_values=-jnp.inf
  )
  scores_BxK, items_BxK = jax.lax.top_k(scores_BxI, k)
  return jnp.where(scores_BxK > -jnp.inf, items_BxK, -1), scores_BxK


def shuffled(rows: Rows, seed: int) -> Rows:
  """Each row in a fixed random order: its start is a fair subset of it."""
  user_E = np.repeat(np.arange(len(rows.lengths)), rows.lengths)
  rng = np.random.default_rng(seed)
  order = np.lexsort((rng.random(len(user_E)), user_E))
  return Rows(rows.offset, rows.items[order])


class Ranker:
  """Compiles a recommend function to run over any users in one call."""

  def __init__(
    self, recommend: Recommend, history: Rows, batch_size: int, seed: int
  ):
    history = shuffled(history, seed)
    longest = max(int(history.lengths.max(initial=0)), 1)
    # One slot to gather from when there is no interaction at all.
    items = np.append(history.items, -1)
    self._history = parallel.replicate(
      (jnp.asarray(history.offset), jnp.asarray(items))
    )

    def of_batch(arguments, user_B):
      params, (offset, items_E) = arguments
      place_BxH = offset[user_B][:, None] + jnp.arange(longest)[None]
      own_BxH = place_BxH < offset[user_B + 1][:, None]
      history_BxH = jnp.where(own_BxH, items_E[place_BxH], -1)
      return recommend(params, user_B, history_BxH)

    self._run = parallel.map_users(of_batch, batch_size)

  def __call__(
    self, params: Any, users: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Replicated params, users int [n] -> items [n, K], scores [n, K]."""
    return self._run((params, self._history), users)
