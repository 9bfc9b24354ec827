"""The trie of all Rec-IDs, as arrays on the device.

A node is a prefix of a Rec-ID; the root is node 0. Because items are kept in
the lexicographic order of their Rec-IDs, the items below a node are a range:
(first, count). So the last level needs no table: its token p is valid while
p < count, and the item is number first + p of the order.

There are two forms with the same methods and the same node numbers: PackedTrie
(one bit a token) and DenseTrie (a table, the plain form it is tested against).
"""

import jax
import jax.numpy as jnp
from flax import struct

from mmgrec_jax.decoding.allowed import Allowed
from mmgrec_jax.decoding.dense_trie import DenseTrie, build_dense_trie
from mmgrec_jax.decoding.packed_trie import PackedTrie, build_packed_trie
from mmgrec_jax.recid.assign import RecIds

Trie = PackedTrie | DenseTrie


def build_trie(rec_ids: RecIds, form: str = "packed") -> Trie:
  """The trie of a catalogue; `form` is packed or dense."""
  build = {"packed": build_packed_trie, "dense": build_dense_trie}[form]
  return build(rec_ids)


@struct.dataclass
class Exhausted:
  """Children with no item left for a user, by (parent, token), [B, H, M].

  A row is a seen item, in lexicographic order; column m speaks of level m.
  Where `dead` is False, parent and token mean nothing.
  """

  parent: jax.Array
  token: jax.Array
  dead: jax.Array


def exhausted_children(
  trie: Trie, history_BxH: jax.Array, allowed: Allowed | None = None
) -> Exhausted:
  """Which trie children a user's seen items use up completely.

  A child is dead when every item below it, of those allowed, is in the history.
  At the last level a child is one item, so each seen item is dead. Excluding
  them while decoding keeps every beam on the way to an unseen item.

  Args:
    history_BxH: int32 items, no item twice, -1 = padding.
  """
  items, M = len(trie.item_I), trie.levels
  position_BxH = trie.position(jnp.maximum(history_BxH, 0))
  counts_BxH = history_BxH >= 0
  if allowed is not None:
    before_J = allowed.before_J
    counts_BxH &= before_J[position_BxH + 1] > before_J[position_BxH]
  seen_BxH = jnp.sort(jnp.where(counts_BxH, position_BxH, items), axis=1)
  item_BxH = trie.item_I[jnp.minimum(seen_BxH, items - 1)]
  path_BxHxM = trie.path(item_BxH)
  # Positions among what is allowed.
  among = lambda place: place if allowed is None else allowed.before_J[place]

  def used_up(m: int) -> jax.Array:
    first, count = trie.item_range(path_BxHxM[..., m], m)
    return _used_up(
      among(seen_BxH), among(first), among(first + count) - among(first)
    )

  dead = [used_up(m) for m in range(1, M)]
  dead.append(jnp.ones_like(seen_BxH, bool))  # At the last level: one item.
  dead_BxHxM = jnp.stack(dead, axis=-1) & (seen_BxH < items)[..., None]
  return Exhausted(path_BxHxM, trie.tokens(item_BxH), dead_BxHxM)


def _used_up(
  seen_BxH: jax.Array, first_BxH: jax.Array, count_BxH: jax.Array
) -> jax.Array:
  """Is all of a range seen that each seen position lies in?

  Seen positions ascend and differ. So a whole range is there exactly when its
  first and its last position stand where they then must.
  """
  H = seen_BxH.shape[1]
  here_1xH = jnp.arange(H)[None, :]
  low_BxH = here_1xH - (seen_BxH - first_BxH)
  high_BxH = low_BxH + count_BxH - 1
  at = lambda place: jnp.take_along_axis(
    seen_BxH, jnp.clip(place, 0, H - 1), axis=1
  )
  return (
    (low_BxH >= 0)
    & (high_BxH < H)
    & (at(low_BxH) == first_BxH)
    & (at(high_BxH) == first_BxH + count_BxH - 1)
  )
