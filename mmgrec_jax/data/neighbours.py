"""Sampled neighbourhoods: a batch is embedded without the rest of the graph.

GraphSAGE's (Hamilton et al. 2017): from the batch outwards, each hop draws a
few neighbours of every node. All on the device, from the CSR rows of both
sides.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mmgrec_jax.data.dataset import Rows
from mmgrec_jax.data.sampling import Interactions
from mmgrec_jax.graph import Fan


@struct.dataclass
class UsersOf:
  """Each item's users, the other side of `Interactions`; int32.

  offset: [I + 1].  user_E: users ascending within an item.
  """

  offset: jax.Array
  user_E: jax.Array


@struct.dataclass
class Neighbourhood:
  """What the convolutions over a batch read.

  user_S, item_S: whose inputs the first one reads; those of the batch stand
    first.
  fans: of each convolution, the first one's first.
  """

  user_S: jax.Array
  item_S: jax.Array
  fans: tuple[Fan, ...]

  def nodes(self, fan: Fan, n_users: int) -> jax.Array:
    """Whom each row stands for that `fan` gives: users, n_users + items."""
    users, items = len(fan.real_UxF), len(fan.real_IxF)
    return jnp.concatenate([self.user_S[:users], n_users + self.item_S[:items]])


def users_of(rows: Rows, n_items: int) -> UsersOf:
  """From the items of each user."""
  user_E = np.repeat(np.arange(len(rows.lengths)), rows.lengths)
  by_item_E = np.argsort(rows.items, kind="stable")
  offset = np.searchsorted(rows.items[by_item_E], np.arange(n_items + 1))
  return UsersOf(
    jnp.asarray(offset, jnp.int32), jnp.asarray(user_E[by_item_E], jnp.int32)
  )


def draw_neighbours(
  key: jax.Array,
  offset: jax.Array,
  neighbour_E: jax.Array,
  node_N: jax.Array,
  fan_out: int,
) -> tuple[jax.Array, jax.Array]:
  """Up to `fan_out` neighbours of each node, uniformly, none twice.

  A node draws the same neighbours wherever it stands in `node_N`, so any number
  of devices draws alike.

  Args:
    offset, neighbour_E: CSR rows.

  Returns:
    int32 [N, F], and bool [N, F]: which of them there are; the others are 0.
  """
  F, first_N = fan_out, offset[node_N]
  degree_N = offset[node_N + 1] - first_N
  f_1xF = jnp.arange(F)[None]
  # Floyd's: the f-th draw is below `last`, and `last` itself if it came before.
  last_NxF = jnp.maximum(degree_N[:, None] - F + f_1xF, 0)
  draw = lambda node, last_F: jax.random.randint(
    jax.random.fold_in(key, node), (F,), 0, last_F + 1
  )
  drawn_NxF = jax.vmap(draw)(node_N, last_NxF)

  def choose(f, chosen_NxF):
    drawn_N = drawn_NxF[:, f]
    again_N = (chosen_NxF == drawn_N[:, None]).any(axis=1)
    return chosen_NxF.at[:, f].set(jnp.where(again_N, last_NxF[:, f], drawn_N))

  none_NxF = jnp.full_like(drawn_NxF, -1)
  chosen_NxF = jax.lax.fori_loop(0, F, choose, none_NxF)
  place_NxF = jnp.where(degree_N[:, None] <= F, f_1xF, chosen_NxF)
  real_NxF = f_1xF < degree_N[:, None]
  neighbour_NxF = neighbour_E[first_N[:, None] + place_NxF]
  return jnp.where(real_NxF, neighbour_NxF, 0), real_NxF


def draw_neighbourhood(
  key: jax.Array,
  interactions: Interactions,
  users_of: UsersOf,
  user_B: jax.Array,
  item_C: jax.Array,
  fan_out: tuple[int, ...],
) -> Neighbourhood:
  """Hop by hop around a batch of users and a batch of items.

  Args:
    fan_out: neighbours of a node, the batch's first; one for each convolution.
  """
  user_S, item_S, fans = user_B, item_C, []
  for hop, F in enumerate(fan_out):
    user_key, item_key = jax.random.split(jax.random.fold_in(key, hop))
    items_UxF, real_UxF = draw_neighbours(
      user_key, interactions.offset, interactions.item_E, user_S, F
    )
    users_IxF, real_IxF = draw_neighbours(
      item_key, users_of.offset, users_of.user_E, item_S, F
    )
    fans.append(Fan(real_UxF, real_IxF))
    user_S = jnp.concatenate([user_S, users_IxF.reshape(-1)])
    item_S = jnp.concatenate([item_S, items_UxF.reshape(-1)])
  return Neighbourhood(user_S, item_S, tuple(reversed(fans)))
