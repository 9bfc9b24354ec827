"""The trie of all Rec-IDs, as dense arrays on the device.

A node is a prefix of a Rec-ID; the root is node 0. Because items are kept in
the lexicographic order of their Rec-IDs, the items below a node are a range:
(first, count). So the last level needs no table: its token p is valid while
p < count, and the item is number first + p of the order.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mmgrec_jax.recid.assign import RecIds


@struct.dataclass
class Trie:
  """All int32. P inner nodes, Q nodes, L semantic vocabulary.

  next_node_PxL: child of an inner node by token, -1 where there is none.
  first_Q, count_Q: range of lexicographic positions below each node.
  item_I: item at each lexicographic position.  position_I: its inverse.
  tokens_IxM: Rec-ID of each item.
  path_IxM: nodes on the way to each item; column m is the prefix of length m.
  """

  next_node_PxL: jax.Array
  first_Q: jax.Array
  count_Q: jax.Array
  item_I: jax.Array
  position_I: jax.Array
  tokens_IxM: jax.Array
  path_IxM: jax.Array

  @property
  def levels(self) -> int:
    """M, tokens of a Rec-ID."""
    return self.tokens_IxM.shape[1]


def build_trie(rec_ids: RecIds) -> Trie:
  """Numbers the prefixes breadth first and fills the arrays, in NumPy."""
  tokens, L = rec_ids.tokens_IxM, rec_ids.vocabulary[0]
  items, M = tokens.shape
  order = rec_ids.lexicographic_order
  ordered = tokens[order]
  path_IxM = np.zeros((items, M), np.int32)
  first, count, tables = [np.zeros(1, int)], [np.array([items])], []
  n_nodes, parents, prefix = 1, 1, np.zeros(items, int)
  for m in range(M - 1):
    # A new node starts where the prefix of length m + 1 changes.
    starts = np.ones(items, bool)
    starts[1:] = (ordered[1:, : m + 1] != ordered[:-1, : m + 1]).any(axis=1)
    begin = np.flatnonzero(starts)
    number = n_nodes + np.cumsum(starts) - 1
    table = np.full((parents, L), -1, np.int32)
    parent = prefix[begin] - (n_nodes - parents)
    table[parent, ordered[begin, m]] = number[begin]
    tables.append(table)
    path_IxM[order, m + 1] = number
    first.append(begin)
    count.append(np.diff(np.append(begin, items)))
    n_nodes, parents, prefix = n_nodes + len(begin), len(begin), number
  position = np.empty(items, np.int32)
  position[order] = np.arange(items)
  as_int32 = lambda a: jnp.asarray(a, jnp.int32)
  return Trie(
    next_node_PxL=as_int32(np.concatenate(tables)),
    first_Q=as_int32(np.concatenate(first)),
    count_Q=as_int32(np.concatenate(count)),
    item_I=as_int32(order),
    position_I=as_int32(position),
    tokens_IxM=as_int32(tokens),
    path_IxM=as_int32(path_IxM),
  )


def children_mask(trie: Trie, node: jax.Array) -> jax.Array:
  """Semantic tokens that may follow a node, bool [..., L]."""
  return trie.next_node_PxL[node] >= 0


def last_level_mask(trie: Trie, node: jax.Array, width: int) -> jax.Array:
  """Last tokens that may follow a semantic prefix, bool [..., width]."""
  shape = (*node.shape, width)
  token = jax.lax.broadcasted_iota(jnp.int32, shape, node.ndim)
  return token < trie.count_Q[node][..., None]


@struct.dataclass
class Exhausted:
  """Children with no item left for a user, by (parent, token), [B, H, M].

  Column m speaks of level m. Where `dead` is False, parent and token mean
  nothing.
  """

  parent: jax.Array
  token: jax.Array
  dead: jax.Array


def exhausted_children(trie: Trie, history_BxH: jax.Array) -> Exhausted:
  """Which trie children a user's seen items use up completely.

  A child is dead when every item below it is in the history (-1 = padding). At
  the last level a child is one item, so each seen item is dead. Excluding them
  while decoding keeps every beam on the way to an unseen item.
  """
  M = trie.levels
  present_BxH = history_BxH >= 0
  item_BxH = jnp.maximum(history_BxH, 0)
  beyond = len(trie.item_I)
  seen_BxH = jnp.where(present_BxH, trie.position_I[item_BxH], beyond)
  seen_BxH = jnp.sort(seen_BxH, axis=1)
  path_BxHxM = trie.path_IxM[item_BxH]

  def below(seen_H, first_HxM, count_HxM):
    stop = jnp.searchsorted(seen_H, first_HxM + count_HxM)
    return stop - jnp.searchsorted(seen_H, first_HxM)

  child_BxHxM = path_BxHxM[:, :, 1:]
  count = trie.count_Q[child_BxHxM]
  used_up = jax.vmap(below)(seen_BxH, trie.first_Q[child_BxHxM], count) == count
  last = jnp.ones((*history_BxH.shape, 1), bool)
  dead = jnp.concatenate([used_up, last], axis=-1) & present_BxH[..., None]
  assert dead.shape[-1] == M
  return Exhausted(path_BxHxM, trie.tokens_IxM[item_BxH], dead)
