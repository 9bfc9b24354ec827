"""Post-LN Transformer layers: the generator's encoder and decoder blocks."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike

from mmgrec_jax.nn import attention
from mmgrec_jax.nn.dropout import Dropout


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
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    dense = lambda width, name: nn.Dense(
      width, kernel_init=attention.xavier, dtype=self.dtype, name=name
    )
    hidden = nn.relu(dense(self.hidden, "first")(x))
    return dense(x.shape[-1], "second")(hidden)


class AddAndNorm(nn.Module):
  """Residual connection around a sub-layer's output, then LayerNorm."""

  dropout: float
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    sublayer: jax.Array,
    train: bool,
    row_B: jax.Array | None = None,
  ) -> jax.Array:
    """Args: row_B: of the batch in all devices' batch, see nn/dropout.py."""
    sublayer = Dropout(self.dropout)(sublayer, not train, row_B)
    return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype)(x + sublayer)


class EncoderLayer(nn.Module):
  """Self-attention over the history, then a feed-forward.

  `relation` picks the relation-aware attention of eq. 14-19.
  """

  heads: int
  head_width: int
  feed_forward: int
  dropout: float
  relation: bool
  dtype: DTypeLike = jnp.float32
  folded: bool = False

  @nn.compact
  def __call__(
    self,
    x_BxNxD: jax.Array,
    h_user_BxD: jax.Array,
    mask_BxN: jax.Array,
    train: bool,
    row_B: jax.Array | None = None,
  ) -> jax.Array:
    attention_class = (
      attention.RelationAttention if self.relation else attention.SelfAttention
    )
    seen = attention_class(
      self.heads, self.head_width, self.dtype, self.folded
    )(x_BxNxD, h_user_BxD, mask_BxN)
    x = AddAndNorm(self.dropout, self.dtype)(x_BxNxD, seen, train, row_B)
    thought = FeedForward(self.feed_forward, self.dtype)(x)
    return AddAndNorm(self.dropout, self.dtype)(x, thought, train, row_B)


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
  dtype: DTypeLike = jnp.float32
  folded: bool = False

  def setup(self):
    shape = (self.width, self.heads, self.head_width)
    self.own = attention.Attention(*shape, self.dtype, self.folded)
    self.cross = attention.Attention(*shape, self.dtype, self.folded)
    self.feed = FeedForward(self.feed_forward, self.dtype)
    self.norms = [AddAndNorm(self.dropout, self.dtype) for _ in range(3)]

  def memory(self, encoded_BxNxD: jax.Array) -> attention.Seen:
    """What the layer needs of the encoder, once a user: arrays [B, N, …]."""
    return self.cross.seen(encoded_BxNxD)

  def empty_cache(self, batch: int, beams: int, length: int) -> attention.Seen:
    """Room for what `length` tokens of each beam let later ones see."""
    nothing = jnp.zeros((batch, beams, length, self.width), self.dtype)
    return self.own.seen(nothing)

  def __call__(
    self,
    x_BxKxSxD: jax.Array,
    memory: attention.Seen,
    mask_BxN: jax.Array,
    train: bool,
    row_B: jax.Array | None = None,
  ) -> jax.Array:
    B, K, S, D = x_BxKxSxD.shape
    x = x_BxKxSxD.reshape(B * K, S, D)
    seen = self.own.seen(x)
    causal_1xSxS = jnp.tril(jnp.ones((1, S, S), bool))
    read = attention.attend(
      self.own.query(x), seen[0], seen[-1], causal_1xSxS, self.own.scale
    )
    x = self._rest(
      x_BxKxSxD.reshape(B, K * S, D),
      self.own.merge(read).reshape(B, K * S, D),
      memory,
      mask_BxN,
      train,
      row_B,
    )
    return x.reshape(B, K, S, D)

  def decode_step(
    self,
    x_BxKxD: jax.Array,
    step: jax.Array,
    cache: attention.Seen,
    memory: attention.Seen,
    mask_BxN: jax.Array,
  ) -> tuple[jax.Array, attention.Seen]:
    """Position `step` of K beams, [B, K, D], and the cache with it added."""
    new = self.own.seen(x_BxKxD)
    cache = tuple(
      old.at[:, :, step].set(now) for old, now in zip(cache, new, strict=True)
    )
    flat = lambda a: a.reshape(-1, *a.shape[2:])
    so_far_M = jnp.arange(cache[0].shape[2]) <= step
    read = attention.attend_few(
      self.own.query(flat(x_BxKxD)),
      flat(cache[0]),
      flat(cache[-1]),
      so_far_M,
      self.own.scale,
    )
    read = self.own.merge(read).reshape(x_BxKxD.shape)
    return self._rest(x_BxKxD, read, memory, mask_BxN, False), cache

  def _rest(self, x_BxSxD, read_BxSxD, memory, mask_BxN, train, row_B=None):
    """After self-attention; all queries of a user read the same memory."""
    x = self.norms[0](x_BxSxD, read_BxSxD, train, row_B)
    read = attention.attend(
      self.cross.query(x),
      memory[0],
      memory[-1],
      mask_BxN[:, None],
      self.cross.scale,
    )
    x = self.norms[1](x, self.cross.merge(read), train, row_B)
    return self.norms[2](x, self.feed(x), train, row_B)
