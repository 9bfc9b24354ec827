"""Post-LN Transformer layers: the generator's encoder and decoder blocks."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from mmgrec_jax.nn import attention


def sinusoidal_positions(length: int, width: int) -> np.ndarray:
  """Positions of Vaswani et al. 2017, float32 [length, width]."""
  place = np.arange(length)[:, None]
  rate = np.exp(-np.log(10000.0) * (np.arange(width) // 2 * 2) / width)
  angle = place * rate
  return np.where(
    np.arange(width) % 2 == 0, np.sin(angle), np.cos(angle)
  ).astype(np.float32)


class FeedForward(nn.Module):
  """Two linear maps with a ReLU between."""

  hidden: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    dense = lambda width: nn.Dense(
      width, kernel_init=attention.xavier, dtype=self.dtype
    )
    return dense(x.shape[-1])(nn.relu(dense(self.hidden)(x)))


class AddAndNorm(nn.Module):
  """Residual connection around a sub-layer's output, then LayerNorm."""

  dropout: float
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, sublayer: jax.Array, train: bool):
    sublayer = nn.Dropout(self.dropout)(sublayer, deterministic=not train)
    return nn.LayerNorm(dtype=self.dtype)(x + sublayer)


class EncoderLayer(nn.Module):
  """Self-attention over the history, then a feed-forward.

  `relation` picks the relation-aware attention of eq. 14-19.
  """

  heads: int
  head_width: int
  feed_forward: int
  dropout: float
  relation: bool
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    x_BxNxD: jax.Array,
    h_user_BxD: jax.Array,
    mask_BxN: jax.Array,
    train: bool,
  ) -> jax.Array:
    attention_class = (
      attention.RelationAttention if self.relation else attention.SelfAttention
    )
    seen = attention_class(self.heads, self.head_width, self.dtype)(
      x_BxNxD, h_user_BxD, mask_BxN
    )
    x = AddAndNorm(self.dropout, self.dtype)(x_BxNxD, seen, train)
    thought = FeedForward(self.feed_forward, self.dtype)(x)
    return AddAndNorm(self.dropout, self.dtype)(x, thought, train)


@struct.dataclass
class LayerMemory:
  """What one decoder layer needs of the encoder, computed once a user."""

  key_BxNxHxW: jax.Array
  value_BxNxHxW: jax.Array


@struct.dataclass
class LayerCache:
  """Keys and values of the tokens decoded so far; K beams, M positions."""

  key_BxKxMxHxW: jax.Array
  value_BxKxMxHxW: jax.Array


class DecoderLayer(nn.Module):
  """Causal self-attention, cross-attention, feed-forward.

  Tokens come as [B, K, S, D]: K sequences a user (targets in training, beams in
  decoding) share that user's memory. `__call__` sees whole sequences;
  `decode_step` sees one position and a cache, and gives the same result.
  """

  width: int
  heads: int
  head_width: int
  feed_forward: int
  dropout: float
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    heads = lambda: attention.Heads(self.heads, self.head_width, self.dtype)
    self.self_q, self.self_k, self.self_v = heads(), heads(), heads()
    self.cross_q, self.cross_k, self.cross_v = heads(), heads(), heads()
    self.self_o = attention.MergeHeads(self.width, self.dtype)
    self.cross_o = attention.MergeHeads(self.width, self.dtype)
    self.feed = FeedForward(self.feed_forward, self.dtype)
    self.norms = [AddAndNorm(self.dropout, self.dtype) for _ in range(3)]

  def memory(self, encoded_BxNxD: jax.Array) -> LayerMemory:
    return LayerMemory(self.cross_k(encoded_BxNxD), self.cross_v(encoded_BxNxD))

  def __call__(
    self,
    x_BxKxSxD: jax.Array,
    memory: LayerMemory,
    mask_BxN: jax.Array,
    train: bool,
  ) -> jax.Array:
    S = x_BxKxSxD.shape[2]
    causal_SxS = jnp.tril(jnp.ones((S, S), bool))
    key, value = self.self_k(x_BxKxSxD), self.self_v(x_BxKxSxD)
    return self._layer(
      x_BxKxSxD, key, value, causal_SxS, memory, mask_BxN, train
    )

  def decode_step(
    self,
    x_BxKxD: jax.Array,
    step: jax.Array,
    cache: LayerCache,
    memory: LayerMemory,
    mask_BxN: jax.Array,
  ) -> tuple[jax.Array, LayerCache]:
    """Position `step` of K beams, [B, K, D], and the cache with it added."""
    x = x_BxKxD[:, :, None]
    cache = LayerCache(
      cache.key_BxKxMxHxW.at[:, :, step].set(self.self_k(x_BxKxD)),
      cache.value_BxKxMxHxW.at[:, :, step].set(self.self_v(x_BxKxD)),
    )
    M = cache.key_BxKxMxHxW.shape[2]
    so_far_1xM = (jnp.arange(M) <= step)[None]
    key, value = cache.key_BxKxMxHxW, cache.value_BxKxMxHxW
    x = self._layer(x, key, value, so_far_1xM, memory, mask_BxN, False)
    return x[:, :, 0], cache

  def _layer(self, x, key, value, self_mask, memory, mask_BxN, train):
    B, K, S, D = x.shape
    scale = self.head_width**-0.5
    flat = lambda a: a.reshape(B * K, *a.shape[2:])
    seen = attention.attend_few(
      flat(self.self_q(x)), flat(key), flat(value), self_mask, scale
    )
    x = self.norms[0](x, self.self_o(seen).reshape(B, K, S, D), train)
    # All K x S queries of a user read the same memory: one product.
    query = self.cross_q(x.reshape(B, K * S, D))
    seen = attention.attend(
      query, memory.key_BxNxHxW, memory.value_BxNxHxW, mask_BxN[:, None], scale
    )
    x = self.norms[1](x, self.cross_o(seen).reshape(B, K, S, D), train)
    return self.norms[2](x, self.feed(x), train)
