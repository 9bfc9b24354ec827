"""Training batches drawn on the device: no host work a sample.

The interactions live on the device by user (CSR). An epoch is planned once by
shuffling; a step then only gathers.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mmgrec_jax.data.dataset import Rows


@struct.dataclass
class Interactions:
  """Training interactions by user, all int32.

  offset: [U + 1].  user_E, item_E: items ascending within a user.
  gap_E: unseen items below each item, item - place in its row.
  n_items: I.  longest: items of the user who has most.
  """

  offset: jax.Array
  user_E: jax.Array
  item_E: jax.Array
  gap_E: jax.Array
  n_items: int = struct.field(pytree_node=False)
  longest: int = struct.field(pytree_node=False)


def on_device(rows: Rows, n_items: int) -> Interactions:
  """Moves CSR rows to the device.

  Only `sample_unseen` needs what the rows of `Dataset.rows` have: ascending
  items.
  """
  user_E = np.repeat(np.arange(len(rows.lengths)), rows.lengths)
  place_E = np.arange(len(user_E)) - rows.offset[user_E]
  as_int32 = lambda a: jnp.asarray(a, jnp.int32)
  return Interactions(
    offset=as_int32(rows.offset),
    user_E=as_int32(user_E),
    item_E=as_int32(rows.items),
    gap_E=as_int32(rows.items - place_E),
    n_items=n_items,
    longest=int(rows.lengths.max(initial=0)),
  )


def _bisect_right(
  values_E: jax.Array, start_B: jax.Array, stop_B: jax.Array, x_B: jax.Array
) -> jax.Array:
  """Entries of values[start:stop], ascending, that are <= x. int32 [B]."""

  def halve(_, bounds):
    low, high = bounds
    middle = (low + high) // 2
    go_right = (low < high) & (values_E[middle] <= x_B)
    return (
      jnp.where(go_right, middle + 1, low),
      jnp.where(go_right | (low >= high), high, middle),
    )

  steps = len(values_E).bit_length()
  low, _ = jax.lax.fori_loop(0, steps, halve, (start_B, stop_B))
  return low - start_B


def sample_unseen(
  key: jax.Array, data: Interactions, user_B: jax.Array
) -> jax.Array:
  """One item a user has not seen in training, uniformly. int32 [B].

  The k-th unseen item is k plus the seen items at or before it, found by
  binary search: exact, without rejection. A user who has seen everything gets
  the last item.
  """
  start_B, stop_B = data.offset[user_B], data.offset[user_B + 1]
  unseen_B = data.n_items - (stop_B - start_B)
  k_B = jax.random.randint(key, user_B.shape, 0, jnp.maximum(unseen_B, 1))
  item_B = k_B + _bisect_right(data.gap_E, start_B, stop_B, k_B)
  return jnp.minimum(item_B, data.n_items - 1)


def items_of(data: Interactions, user_B: jax.Array) -> jax.Array:
  """All training items of users, int32 [B, longest]; -1 = padding, last."""
  return padded_rows(data.offset, data.item_E, user_B, data.longest)


def padded_rows(
  offset: jax.Array, item_E: jax.Array, user_B: jax.Array, width: int
) -> jax.Array:
  """The first `width` items of users' rows, int32 [B, width]; -1 = padding."""
  place_BxH = offset[user_B][:, None] + jnp.arange(width)[None]
  own_BxH = place_BxH < offset[user_B + 1][:, None]
  return jnp.where(own_BxH, item_E[place_BxH], -1)


def epoch_order(key: jax.Array, n: int, steps: int, batch: int) -> jax.Array:
  """0 … n-1 shuffled into [steps, batch]; -1 fills up the last batch."""
  order = jax.random.permutation(key, n).astype(jnp.int32)
  return jnp.pad(order, (0, steps * batch - n), constant_values=-1).reshape(
    steps, batch
  )


@struct.dataclass
class Windows:
  """How users' histories are cut into training samples; int32.

  user_S, window_S: of each sample.  targets_U: how many items one sample of a
  user predicts: at most half of what they have, so that a history is left.
  """

  user_S: jax.Array
  window_S: jax.Array
  targets_U: jax.Array


def cut_windows(rows: Rows, targets_per_history: int) -> Windows:
  """Samples such that every interaction is a target once an epoch."""
  targets_U = np.clip(rows.lengths // 2, 1, targets_per_history)
  windows_U = -(-rows.lengths // targets_U)
  user_S = np.repeat(np.arange(len(windows_U)), windows_U)
  first_U = np.concatenate([[0], np.cumsum(windows_U)[:-1]])
  window_S = np.arange(len(user_S)) - first_U[user_S]
  as_int32 = lambda a: jnp.asarray(a, jnp.int32)
  return Windows(as_int32(user_S), as_int32(window_S), as_int32(targets_U))


def shuffle_rows(key: jax.Array, data: Interactions) -> jax.Array:
  """Places 0 … E-1, each user's freshly shuffled. int32 [E]."""
  order = jnp.lexsort((jax.random.uniform(key, data.user_E.shape), data.user_E))
  return order.astype(jnp.int32)


def draw_windows(
  order_E: jax.Array,
  data: Interactions,
  windows: Windows,
  sample_B: jax.Array,
  history_length: int,
  targets_per_history: int,
  around: bool = True,
  whole: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Histories and the targets cut out of them.

  Of a user's row a window of T items are the targets, the N after it the
  history. Of shuffled rows and around the end they are uniform, without
  replacement, no overlap; of rows with the newest first and not around the end
  the history is what came before the targets, as at serving.

  Args:
    order_E: places of the items: of `shuffle_rows`, or 0 … E-1 as they are.
    sample_B: rows of `windows`, -1 = padding.
    around: whether a history goes on at the start of the row.
    whole: whether the targets stay in the history, which is of all the row.

  Returns:
    user [B], history [B, N], targets [B, T]; -1 = padding in the last two.
  """
  real_Bx1 = sample_B[:, None] >= 0
  sample_B = jnp.maximum(sample_B, 0)
  user_B = windows.user_S[sample_B]
  size_Bx1 = (data.offset[user_B + 1] - data.offset[user_B])[:, None]
  per_Bx1 = windows.targets_U[user_B][:, None]
  start_Bx1 = windows.window_S[sample_B][:, None] * per_Bx1
  n_targets_Bx1 = jnp.minimum(per_Bx1, size_Bx1 - start_Bx1)

  n_places = len(data.item_E)

  def take(number_BxC, valid_BxC):
    number_BxC = number_BxC % jnp.maximum(size_Bx1, 1)
    place_BxC = order_E[data.offset[user_B][:, None] + number_BxC]
    return jnp.where(valid_BxC & real_Bx1, place_BxC, n_places)

  def item_at(place_BxC):
    return jnp.where(place_BxC < n_places, data.item_E[place_BxC], -1)

  t_1xT = jnp.arange(targets_per_history)[None]
  targets_BxT = take(start_Bx1 + t_1xT, t_1xT < n_targets_Bx1)
  n_1xN = jnp.arange(history_length)[None]
  first_Bx1, rest_Bx1 = start_Bx1 + n_targets_Bx1, size_Bx1 - n_targets_Bx1
  if not around:
    rest_Bx1 -= start_Bx1
  if whole:
    first_Bx1, rest_Bx1 = start_Bx1 if around else 0, size_Bx1
  history_BxN = take(first_Bx1 + n_1xN, n_1xN < rest_Bx1)
  return user_B, item_at(history_BxN), item_at(targets_BxT)


def draw_histories(
  key: jax.Array,
  data: Interactions,
  user_B: jax.Array,
  length: int,
  left_out_B: jax.Array | None = None,
) -> jax.Array:
  """Up to `length` of each user's items, uniformly, without replacement.

  Args:
    left_out_B: an interaction of each user's that may not be among them.

  Returns:
    int32 [B, length]; -1 = padding, last.
  """
  order_E = shuffle_rows(key, data)
  first_Bx1 = data.offset[user_B][:, None]
  size_Bx1 = data.offset[user_B + 1][:, None] - first_Bx1
  n_BxS = jnp.broadcast_to(jnp.arange(length), (len(user_B), length))
  place_BxS, available_Bx1 = n_BxS, size_Bx1
  if left_out_B is not None:
    # Those after it in the shuffled row, around the end, are a fair draw too.
    place_E = jnp.zeros_like(order_E).at[order_E].set(jnp.arange(len(order_E)))
    place_BxS = n_BxS + place_E[left_out_B][:, None] - first_Bx1 + 1
    available_Bx1 = size_Bx1 - 1
  place_BxS = first_Bx1 + place_BxS % jnp.maximum(size_Bx1, 1)
  item_BxS = data.item_E[order_E[place_BxS]]
  return jnp.where(n_BxS < available_Bx1, item_BxS, -1)
