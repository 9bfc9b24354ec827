"""Soft targets: the embedding stage's ranking as a teacher of the generator.

The vectors, alone or re-scored, say how likely each item is that a user has not
seen. Items are drawn as they say, and at each token on the way to one the
generator learns the shares of that distribution that lie below the children of
the trie. So it is taught where beam search will go: the Rec-IDs of training
items lead elsewhere.
"""

import jax
import jax.numpy as jnp
from flax import struct

from mmgrec_jax.decoding.trie import Trie
from mmgrec_jax.models.generator import Vectors
from mmgrec_jax.training import parallel

# Finite: of a user who has seen all, minus infinity would become NaN.
NEVER = -1e9


@struct.dataclass
class Lists:
  """A teacher that is not h_u . h_i: likely items, and the logits of each.

  item_UxK: int32, -1 = none.  logit_UxK: float32.
  """

  item_UxK: jax.Array
  logit_UxK: jax.Array


@struct.dataclass
class Lesson:
  """How a batch is taught: `config.generator.soft_targets`, and chance.

  level_BxT: in [0, 1); picks the items of `draw_items`.
  """

  share: float = struct.field(pytree_node=False)
  sharpness: float = struct.field(pytree_node=False)
  level_BxT: jax.Array


def item_distribution(
  vectors: Vectors,
  trie: Trie,
  user_B: jax.Array,
  seen_BxH: jax.Array,
  sharpness: float,
  lists: Lists | None = None,
) -> jax.Array:
  """softmax(sharpness * logits), float32 [B, I], in the trie's order.

  The logits are those of the lists, or the standard scores of h_u . h_i over a
  user's items. Seen items have no share: beam search is never asked for them.
  Of a user who has seen all, nothing has one.

  Args:
    seen_BxH: items, -1 = padding.
  """
  items = len(trie.item_I)
  if lists is None:
    score_BxI = parallel.products(vectors.user_UxD[user_B], vectors.item_IxD)
    centred_BxI = score_BxI - score_BxI.mean(axis=1, keepdims=True)
    spread_Bx1 = jnp.sqrt((centred_BxI**2).mean(axis=1, keepdims=True) + 1e-12)
    logits_BxI = sharpness * centred_BxI / spread_Bx1
  else:
    rows_Bx1 = jnp.arange(len(user_B))[:, None]
    logit_BxK, item_BxK = lists.logit_UxK[user_B], lists.item_UxK[user_B]
    item_BxK = jnp.where(item_BxK >= 0, item_BxK, items)
    logits_BxI = jnp.full((len(user_B), items), NEVER)
    logits_BxI = logits_BxI.at[rows_Bx1, item_BxK].set(
      sharpness * logit_BxK, mode="drop"
    )
  rows_Bx1 = jnp.arange(len(user_B))[:, None]
  seen_BxH = jnp.where(seen_BxH >= 0, seen_BxH, items)
  logits_BxI = logits_BxI.at[rows_Bx1, seen_BxH].set(NEVER, mode="drop")
  share_BxI = jnp.where(
    logits_BxI > NEVER, jax.nn.softmax(logits_BxI, axis=1), 0
  )
  return share_BxI[:, trie.item_I]


def draw_items(trie: Trie, p_BxI: jax.Array, level_BxT: jax.Array) -> jax.Array:
  """Items of each user's distribution, with replacement. int32 [B, T].

  Args:
    p_BxI: of items, in the trie's order; all 0: any items are drawn.
    level_BxT: uniform in [0, 1).
  """
  below_BxI = jnp.cumsum(p_BxI, axis=1)
  place_BxT = jax.vmap(
    lambda below_I, level_T: jnp.searchsorted(below_I, level_T, side="right")
  )(below_BxI, level_BxT * below_BxI[:, -1:])
  return trie.item_I[jnp.minimum(place_BxT, p_BxI.shape[1] - 1)]


def token_distributions(
  trie: Trie, p_BxI: jax.Array, item_BxT: jax.Array, last_width: int
) -> tuple[jax.Array, jax.Array]:
  """Each token's distribution, given the tokens before it in a Rec-ID.

  Args:
    p_BxI: of items, in the trie's order.
    item_BxT: whose Rec-IDs lead the way.
    last_width: C.

  Returns:
    [B, T, M-1, L] for the semantic tokens and [B, T, C] for the last; rows of
    zeros where nothing below a prefix has a share.
  """
  rows_Bx1x1 = jnp.arange(len(p_BxI))[:, None, None]
  below_BxJ = jnp.pad(jnp.cumsum(p_BxI, axis=1), [(0, 0), (1, 0)])
  path_BxTxM = trie.path(item_BxT)
  semantic = []
  for m in range(trie.levels - 1):
    node_BxTxL = jnp.broadcast_to(
      path_BxTxM[..., m, None], (*item_BxT.shape, trie.semantic_size)
    )
    token_BxTxL = jnp.broadcast_to(
      jnp.arange(trie.semantic_size)[None, None], node_BxTxL.shape
    )
    child = trie.child(node_BxTxL, token_BxTxL)
    first, count = trie.item_range(child, m + 1)
    share = below_BxJ[rows_Bx1x1, first + count] - below_BxJ[rows_Bx1x1, first]
    semantic.append(jnp.where(trie.children(path_BxTxM[..., m]), share, 0.0))
  leaf_BxT = path_BxTxM[..., -1]
  first_BxT, _ = trie.item_range(leaf_BxT, trie.levels - 1)
  place_BxTxC = first_BxT[..., None] + jnp.arange(last_width)[None, None]
  last_BxTxC = jnp.where(
    trie.last_tokens(leaf_BxT, last_width),
    p_BxI[rows_Bx1x1, jnp.minimum(place_BxTxC, p_BxI.shape[1] - 1)],
    0.0,
  )
  return _normalise(jnp.stack(semantic, axis=2)), _normalise(last_BxTxC)


def gain(
  trie: Trie,
  p_BxI: jax.Array,
  item_BxT: jax.Array,
  log_p: tuple[jax.Array, jax.Array],
) -> jax.Array:
  """Expected log-probability of each token, float32 [B, T, M].

  Args:
    log_p: as `token_log_probs` gives it.
  """
  semantic, last = log_p
  shares = token_distributions(trie, p_BxI, item_BxT, last.shape[-1])
  expected = lambda share, log_p: jnp.where(share > 0, share * log_p, 0.0).sum(
    axis=-1
  )
  return jnp.concatenate(
    [expected(shares[0], semantic), expected(shares[1], last)[..., None]],
    axis=-1,
  )


def _normalise(share: jax.Array) -> jax.Array:
  """Shares [..., V] to sum 1; what cumulative sums made negative is 0."""
  share = jnp.maximum(share, 0.0)
  total = share.sum(axis=-1, keepdims=True)
  return jnp.where(total > 0, share / jnp.maximum(total, 1e-30), 0.0)
