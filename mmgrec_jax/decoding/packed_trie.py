"""The trie as one bit for each token of a node.

Nodes are numbered breadth first and the children of a node follow one another,
so the child of a token is the node's first child plus the number of bits before
the token: no pointer for each child is stored. Complete semantic prefixes, by
far the most nodes, have no bits at all, only a count of items each.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mmgrec_jax.decoding.prefixes import number_prefixes
from mmgrec_jax.recid.assign import RecIds

WORD = 32  # bits
BLOCK = 16  # leaf counts summed up from one stored position


@struct.dataclass
class PackedTrie:
  """P inner nodes (prefixes of length 0 to M - 2), then the leaves (M - 1).

  bits_PxW: uint32, bit b of word w: may token 32 w + b follow?
  start_P: int32, number of the node's first child.
  first_R: int32, lexicographic position of the first item below an inner node;
    one entry more than there are nodes, 0.
  count_GxS: items below each leaf, S = 16 leaves a row; unsigned, as narrow as
    the largest allows.
  block_G: int32, position of the first item below each row.
  item_I: int32, item at each lexicographic position.
  tokens_IxM: Rec-ID of each item; unsigned, as narrow as the largest allows.
  semantic_size: L.
  """

  bits_PxW: jax.Array
  start_P: jax.Array
  first_R: jax.Array
  count_GxS: jax.Array
  block_G: jax.Array
  item_I: jax.Array
  tokens_IxM: jax.Array
  semantic_size: int = struct.field(pytree_node=False)

  @property
  def levels(self) -> int:
    """M, tokens of a Rec-ID."""
    return self.tokens_IxM.shape[1]

  def children(self, node: jax.Array) -> jax.Array:
    """Semantic tokens that may follow inner nodes [...], bool [..., L]."""
    bits = self.bits_PxW[node]
    lane = jax.lax.broadcasted_iota(jnp.uint32, (*bits.shape, WORD), bits.ndim)
    mask = (bits[..., None] >> lane) & 1 > 0
    return mask.reshape(*node.shape, -1)[..., : self.semantic_size]

  def child(self, node: jax.Array, token: jax.Array) -> jax.Array:
    """The node after a valid token; any number after one that is not."""
    bits = self.bits_PxW[node]
    word = jax.lax.broadcasted_iota(jnp.int32, bits.shape, bits.ndim - 1)
    own, place = token[..., None] // WORD, token[..., None] % WORD
    below = (jnp.uint32(1) << place.astype(jnp.uint32)) - 1
    before = jnp.where(word == own, bits & below, bits)
    before = jnp.where(word <= own, before, 0)
    rank = jax.lax.population_count(before).astype(jnp.int32).sum(axis=-1)
    return self.start_P[node] + rank

  def last_tokens(self, node: jax.Array, width: int) -> jax.Array:
    """Last tokens that may follow leaves [...], bool [..., width]."""
    leaf = self._leaf(node)
    count = self.count_GxS[leaf // BLOCK, leaf % BLOCK].astype(jnp.int32)
    shape = (*node.shape, width)
    token = jax.lax.broadcasted_iota(jnp.int32, shape, node.ndim)
    return token < count[..., None]

  def item(self, node: jax.Array, last_token: jax.Array) -> jax.Array:
    """The item of a leaf and a valid last token."""
    first, _ = self._leaf_range(node)
    return self.item_I[first + last_token]

  def item_range(
    self, node: jax.Array, length: int
  ) -> tuple[jax.Array, jax.Array]:
    """Lexicographic positions below nodes: the first, and how many.

    Args:
      length: tokens of the prefixes that the nodes are, 0 to M - 1.
    """
    if length == self.levels - 1:
      return self._leaf_range(node)
    first, stop = self.first_R[node], self.first_R[node + 1]
    # The next node starts the next level at 0 if this one ends its own.
    return first, jnp.where(stop == 0, len(self.item_I), stop) - first

  def tokens(self, item: jax.Array) -> jax.Array:
    """Rec-IDs of items, int32 [..., M]."""
    return self.tokens_IxM[item].astype(jnp.int32)

  def path(self, item: jax.Array) -> jax.Array:
    """Nodes on the way to items, int32 [..., M], from the root to the leaf."""
    tokens = self.tokens(item)
    nodes = [jnp.zeros_like(item)]
    for m in range(self.levels - 1):
      nodes.append(self.child(nodes[-1], tokens[..., m]))
    return jnp.stack(nodes, axis=-1)

  def position(self, item: jax.Array) -> jax.Array:
    """Lexicographic position of items."""
    first, _ = self._leaf_range(self.path(item)[..., -1])
    return first + self.tokens(item)[..., -1]

  def mask_bytes(self) -> int:
    """Bytes that say which tokens may follow a prefix, and whose items."""
    arrays = (
      self.bits_PxW,
      self.start_P,
      self.first_R,
      self.count_GxS,
      self.block_G,
    )
    return sum(a.nbytes for a in arrays)

  def catalogue_bytes(self) -> int:
    """Bytes of the arrays with a row for each item."""
    return self.item_I.nbytes + self.tokens_IxM.nbytes

  def _leaf(self, node: jax.Array) -> jax.Array:
    # Dead beams stand on the root, which is no leaf.
    return jnp.maximum(node - len(self.start_P), 0)

  def _leaf_range(self, node: jax.Array) -> tuple[jax.Array, jax.Array]:
    leaf = self._leaf(node)
    block, lane = leaf // BLOCK, (leaf % BLOCK)[..., None]
    count = self.count_GxS[block].astype(jnp.int32)
    lanes = jax.lax.broadcasted_iota(jnp.int32, count.shape, count.ndim - 1)
    before = jnp.where(lanes < lane, count, 0).sum(axis=-1)
    own = jnp.where(lanes == lane, count, 0).sum(axis=-1)
    return self.block_G[block] + before, own


def _narrowest(largest: int) -> type:
  """The smallest integer type, but int32 rather than uint32."""
  if largest < 2**8:
    return np.uint8
  return np.uint16 if largest < 2**16 else np.int32


def build_packed_trie(rec_ids: RecIds) -> PackedTrie:
  """Packs the bits and counts, in NumPy."""
  *inner, leaves = number_prefixes(rec_ids)
  L, items = rec_ids.vocabulary[0], len(rec_ids.tokens_IxM)
  bits, n_children = [], []
  for level, below in zip(inner, [*inner[1:], leaves], strict=True):
    words = np.zeros((len(level.begin_n), -(-L // WORD)), np.uint32)
    place = (below.parent_n, below.token_n // WORD)
    np.bitwise_or.at(words, place, np.uint32(1) << below.token_n % WORD)
    bits.append(words)
    n_children.append(np.bincount(below.parent_n, minlength=len(words)))
  n_children = np.concatenate(n_children)
  first = np.concatenate([*(level.begin_n for level in inner), [0]])

  count = np.diff(leaves.begin_n, append=items)
  count = np.pad(count, (0, -len(count) % BLOCK)).reshape(-1, BLOCK)
  last_token = max(rec_ids.vocabulary) - 1
  # device_put compiles nothing; jnp.asarray would, for each shape.
  put = lambda array, dtype: jax.device_put(np.asarray(array, dtype))
  return PackedTrie(
    bits_PxW=put(np.concatenate(bits), np.uint32),
    start_P=put(1 + np.cumsum(n_children) - n_children, np.int32),
    first_R=put(first, np.int32),
    count_GxS=put(count, _narrowest(count.max())),
    block_G=put(leaves.begin_n[::BLOCK], np.int32),
    item_I=put(rec_ids.lexicographic_order, np.int32),
    tokens_IxM=put(rec_ids.tokens_IxM, _narrowest(last_token)),
    semantic_size=L,
  )
