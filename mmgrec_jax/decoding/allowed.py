"""Which items may be written at all: an allow-list, the same for everyone."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mmgrec_jax.decoding.prefixes import number_prefixes
from mmgrec_jax.recid.assign import RecIds


@struct.dataclass
class Allowed:
  """Goes with a trie of the same Rec-IDs, in either form.

  alive_PxL: bool, does an allowed item lie below an inner node's child?
  before_J: int32 [I + 1], allowed items before each lexicographic position.
  """

  alive_PxL: jax.Array
  before_J: jax.Array

  def tokens(self, first: jax.Array, width: int) -> jax.Array:
    """Allowed last tokens of leaves, bool [..., width].

    Args:
      first: lexicographic position of each leaf's first item.
    """
    token = jax.lax.broadcasted_iota(
      jnp.int32, (*first.shape, width), first.ndim
    )
    place = first[..., None] + token
    before = lambda at: self.before_J.at[at].get(mode="clip")
    return before(place + 1) > before(place)


def allow(rec_ids: RecIds, allowed_I: np.ndarray) -> Allowed:
  """Args: allowed_I: bool, by item row; not all False."""
  *inner, leaves = number_prefixes(rec_ids)
  allowed_I = allowed_I[rec_ids.lexicographic_order]
  before_J = np.concatenate([[0], np.cumsum(allowed_I)])
  alive = []
  for level, below in zip(inner, [*inner[1:], leaves], strict=True):
    end = np.append(below.begin_n[1:], len(allowed_I))
    some = before_J[end] > before_J[below.begin_n]
    table = np.zeros((len(level.begin_n), rec_ids.vocabulary[0]), bool)
    table[below.parent_n[some], below.token_n[some]] = True
    alive.append(table)
  return Allowed(
    alive_PxL=jax.device_put(np.concatenate(alive)),
    before_J=jax.device_put(before_J.astype(np.int32)),
  )
