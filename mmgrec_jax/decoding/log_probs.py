"""Probabilities of Rec-IDs' tokens, from what a model gives them."""

import jax
import jax.numpy as jnp

from mmgrec_jax.decoding.trie import Trie

NEG_INF = -jnp.inf


def masked_log_softmax(
  logits: jax.Array, mask: jax.Array, renormalise: bool
) -> jax.Array:
  """Log-probabilities, float32, -inf where `mask` is False.

  Args:
    logits, mask: [..., V].
    renormalise: take the softmax over what the mask allows (then a trie's
      levels multiply to a distribution over items), else over all V.
  """
  logits = logits.astype(jnp.float32)
  if renormalise:
    # A finite floor: an all-False row must not become NaN.
    logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
  return jnp.where(mask, jax.nn.log_softmax(logits, axis=-1), NEG_INF)


def token_log_probs(
  semantic_BxTxSxL: jax.Array,
  last_BxTxC: jax.Array,
  trie: Trie,
  item_BxT: jax.Array,
  trie_softmax: bool,
) -> tuple[jax.Array, jax.Array]:
  """Log-probability of every token on the way of the items' Rec-IDs.

  Returns:
    float32 [B, T, M-1, L] and [B, T, C]; -inf where no item lies.
  """
  path_BxTxM = trie.path(item_BxT)
  children = trie.children(path_BxTxM[..., :-1])
  ranks = trie.last_tokens(path_BxTxM[..., -1], last_BxTxC.shape[-1])
  return (
    masked_log_softmax(semantic_BxTxSxL, children, trie_softmax),
    masked_log_softmax(last_BxTxC, ranks, trie_softmax),
  )


def at_tokens(
  log_p: tuple[jax.Array, jax.Array], tokens_BxTxM: jax.Array
) -> jax.Array:
  """What `token_log_probs` gives the tokens of Rec-IDs, float32 [B, T, M]."""
  pick = lambda log_p, token: jnp.take_along_axis(
    log_p, token[..., None], axis=-1
  )
  semantic, last = log_p
  return jnp.concatenate(
    [
      pick(semantic, tokens_BxTxM[..., :-1])[..., 0],
      pick(last, tokens_BxTxM[..., -1]),
    ],
    axis=-1,
  )
