"""The trie as a table: every node's child for every token."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mmgrec_jax.decoding.prefixes import number_prefixes
from mmgrec_jax.recid.assign import RecIds


@struct.dataclass
class DenseTrie:
  """All int32. P inner nodes, Q nodes, L semantic vocabulary.

  The methods are those of PackedTrie, which tells what they mean.

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
    return self.tokens_IxM.shape[1]

  @property
  def semantic_size(self) -> int:
    return self.next_node_PxL.shape[1]

  def children(self, node: jax.Array) -> jax.Array:
    return self.next_node_PxL[node] >= 0

  def child(self, node: jax.Array, token: jax.Array) -> jax.Array:
    return self.next_node_PxL[node, token]

  def last_tokens(self, node: jax.Array, width: int) -> jax.Array:
    shape = (*node.shape, width)
    token = jax.lax.broadcasted_iota(jnp.int32, shape, node.ndim)
    return token < self.count_Q[node][..., None]

  def item(self, node: jax.Array, last_token: jax.Array) -> jax.Array:
    return self.item_I[self.first_Q[node] + last_token]

  def item_range(
    self, node: jax.Array, length: int
  ) -> tuple[jax.Array, jax.Array]:
    del length  # One table holds the nodes of every level.
    return self.first_Q[node], self.count_Q[node]

  def tokens(self, item: jax.Array) -> jax.Array:
    return self.tokens_IxM[item]

  def path(self, item: jax.Array) -> jax.Array:
    return self.path_IxM[item]

  def position(self, item: jax.Array) -> jax.Array:
    return self.position_I[item]

  def mask_bytes(self) -> int:
    arrays = (self.next_node_PxL, self.first_Q, self.count_Q)
    return sum(a.nbytes for a in arrays)

  def catalogue_bytes(self) -> int:
    arrays = (self.item_I, self.position_I, self.tokens_IxM, self.path_IxM)
    return sum(a.nbytes for a in arrays)


def build_dense_trie(rec_ids: RecIds) -> DenseTrie:
  """Fills the tables, in NumPy."""
  items, M = rec_ids.tokens_IxM.shape
  order = rec_ids.lexicographic_order
  levels = number_prefixes(rec_ids)
  # Number of the first node of each level, and of all nodes.
  base = np.cumsum([0] + [len(level.begin_n) for level in levels])
  next_node = np.full((base[-2], rec_ids.vocabulary[0]), -1, np.int32)
  path_IxM = np.empty((items, M), np.int32)
  counts = []
  for m, level in enumerate(levels):
    number = np.arange(base[m], base[m + 1])
    count = np.diff(level.begin_n, append=items)
    counts.append(count)
    path_IxM[order, m] = np.repeat(number, count)
    if m > 0:
      next_node[base[m - 1] + level.parent_n, level.token_n] = number
  position = np.empty(items, np.int32)
  position[order] = np.arange(items)
  # device_put compiles nothing; jnp.asarray would, for each shape.
  as_int32 = lambda a: jax.device_put(np.asarray(a, np.int32))
  return DenseTrie(
    next_node_PxL=as_int32(next_node),
    first_Q=as_int32(np.concatenate([level.begin_n for level in levels])),
    count_Q=as_int32(np.concatenate(counts)),
    item_I=as_int32(order),
    position_I=as_int32(position),
    tokens_IxM=as_int32(rec_ids.tokens_IxM),
    path_IxM=as_int32(path_IxM),
  )
