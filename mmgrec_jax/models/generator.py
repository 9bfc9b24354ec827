"""The generator (paper §3.3-3.4): a history in, Rec-IDs of liked items out."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax.typing import DTypeLike

from mmgrec_jax.nn import attention, transformer
from mmgrec_jax.nn.dropout import Dropout
from mmgrec_jax.nn.history import mean_of_history


@struct.dataclass
class Vectors:
  """What the earlier stages hand over; None where nothing reads it.

  h_user [U, D], h_item [I, D] and each item's Rec-ID [I, M].
  """

  user_UxD: jax.Array = struct.field(default=None)
  item_IxD: jax.Array = struct.field(default=None)
  tokens_IxM: jax.Array = struct.field(default=None)


@struct.dataclass
class Memory:
  """A user as the decoder sees them: keys and values by layer, and a mask."""

  layers: list[attention.Seen]
  mask_BxN: jax.Array


class Generator(nn.Module):
  """Encoder over a history, decoder over Rec-ID tokens.

  Attributes:
    vocabulary: V_m by level; the first M - 1 are equal.
    encoder: `relation` (eq. 14-19), `sinusoidal` or `none` (Table 5).
    item_embedding: `pretrained` (h as it is), `finetuned` (starts from h),
      `learned` (Table 3, Emb w/o), or `rec_id`: the M tokens of each item's
      Rec-ID in place of one vector (TIGER, Rajput et al. 2023).
    user_token: the decoder also sees the mean vector of the user's items, more
      of them than the encoder reads.
    encoder_head_width: D in the paper, whatever the number of heads.
    decoder_head_width: width / heads in a default Transformer decoder.
    trie_softmax: take each level's softmax over valid children only; the
      product over levels is then a distribution over items.
    folded: the fast form of attention, see `nn.attention`.
    skip_sure: the fast form of beam search, see `decoding.beam_search`.
  """

  vocabulary: tuple[int, ...]
  n_items: int
  width: int
  encoder: str = "relation"
  item_embedding: str = "pretrained"
  user_token: bool = False
  trie_softmax: bool = True
  encoder_layers: int = 2
  decoder_layers: int = 2
  heads: int = 4
  encoder_head_width: int = 64
  decoder_head_width: int = 16
  feed_forward: int = 256
  dropout: float = 0.1
  dtype: DTypeLike = jnp.float32
  folded: bool = True
  skip_sure: bool = True

  def setup(self):
    self.encode_layers = [
      transformer.EncoderLayer(
        self.heads,
        self.encoder_head_width,
        self.feed_forward,
        self.dropout,
        self.encoder == "relation",
        self.dtype,
        self.folded,
      )
      for _ in range(self.encoder_layers)
    ]
    self.decode_layers = [
      transformer.DecoderLayer(
        self.width,
        self.heads,
        self.decoder_head_width,
        self.feed_forward,
        self.dropout,
        self.dtype,
        self.folded,
      )
      for _ in range(self.decoder_layers)
    ]
    self.input_dropout = Dropout(self.dropout)
    if self.user_token:
      self.profile = nn.Dense(self.width, dtype=self.dtype)
    levels, L = len(self.vocabulary) - 1, self.vocabulary[0]
    # One table for what the decoder reads: BOS, then each level's tokens.
    self.tokens = nn.Embed(1 + levels * L, self.width, dtype=self.dtype)
    self.semantic_heads = self.param(
      "semantic_heads",
      nn.initializers.xavier_uniform(batch_axis=0),
      (levels, self.width, L),
    )
    self.semantic_bias = self.param(
      "semantic_bias", nn.initializers.zeros, (levels, L)
    )
    self.last_head = nn.Dense(self.vocabulary[-1], dtype=self.dtype)
    if self.item_embedding == "rec_id":  # The decoder never reads a last token.
      last = self.vocabulary[-1]
      self.last_tokens = nn.Embed(last, self.width, dtype=self.dtype)

  @property
  def levels(self) -> int:
    """M, tokens of a Rec-ID."""
    return len(self.vocabulary)

  @nn.compact
  def _item_table(self, vectors: Vectors) -> jax.Array:
    """Input embedding of every item (eq. 13), [I, D]."""
    if self.item_embedding == "pretrained":
      return vectors.item_IxD
    shape = (self.n_items, self.width)
    if self.item_embedding == "finetuned":
      return self.param("items", lambda _: vectors.item_IxD)
    return self.param("items", nn.initializers.normal(1.0), shape)

  def _read_rec_ids(self, tokens_BxNxM: jax.Array) -> jax.Array:
    """Rec-IDs as one sequence of M tokens an item, [B, N M, D]."""
    B, N, M = tokens_BxNxM.shape
    first_1x1xS = 1 + jnp.arange(M - 1)[None, None] * self.vocabulary[0]
    row = first_1x1xS + tokens_BxNxM[..., :-1]
    last = self.last_tokens(tokens_BxNxM[..., -1:])
    x = jnp.concatenate([self.tokens(row), last], axis=2) * self.width**0.5
    return x.reshape(B, N * M, self.width)

  def encode(
    self,
    vectors: Vectors,
    user_B: jax.Array,
    history_BxN: jax.Array,
    train: bool,
    profile_BxD: jax.Array | None = None,
    row_B: jax.Array | None = None,
  ) -> Memory:
    """Histories (items, -1 = padding, any order) to decoder memory.

    Args:
      profile_BxD: for `user_token`, the mean of `vectors.item_IxD` over items
        of the user's that are not to be predicted.
      row_B: for dropout, of the batch in all devices' batch.
    """
    mask_BxN = history_BxN >= 0
    # Padding reads item 0, but no attention ever looks at it.
    item_BxN = jnp.maximum(history_BxN, 0)
    if self.item_embedding == "rec_id":
      x = self._read_rec_ids(vectors.tokens_IxM[item_BxN])
      mask_BxN = jnp.repeat(mask_BxN, self.levels, axis=1)  # N is N M from here
    else:
      x = self._item_table(vectors)[item_BxN].astype(self.dtype)
    if self.encoder == "sinusoidal":
      x = x + transformer.sinusoidal_positions(x.shape[1], self.width)[None]
    if self.user_token:
      assert profile_BxD is not None
      x = jnp.concatenate([self.profile(profile_BxD)[:, None], x], axis=1)
      mask_BxN = jnp.pad(mask_BxN, [(0, 0), (1, 0)], constant_values=True)
    x = self.input_dropout(x, not train, row_B)
    h_user_BxD: Any = None
    if self.encoder == "relation":
      h_user_BxD = vectors.user_UxD[user_B].astype(self.dtype)
    for layer in self.encode_layers:
      x = layer(x, h_user_BxD, mask_BxN, train, row_B)
    memories = [layer.memory(x) for layer in self.decode_layers]
    return Memory(memories, mask_BxN)

  def _embed(self, token: jax.Array, step: jax.Array | int) -> jax.Array:
    """Embedding of the token before position `step`; BOS at step 0."""
    step = jnp.broadcast_to(step, token.shape)
    row = 1 + (step - 1) * self.vocabulary[0] + token
    row = jnp.where(step == 0, 0, row)
    places_MxD = transformer.sinusoidal_positions(self.levels, self.width)
    place = jnp.asarray(places_MxD, self.dtype)[step]
    return self.tokens(row) * self.width**0.5 + place

  def __call__(
    self,
    vectors: Vectors,
    user_B: jax.Array,
    history_BxN: jax.Array,
    tokens_BxTxM: jax.Array,
    train: bool,
    profile_BxD: jax.Array | None = None,
    row_B: jax.Array | None = None,
  ) -> tuple[jax.Array, jax.Array]:
    """Teacher forcing: T Rec-IDs a user share one encoding.

    Args: as of `encode`.

    Returns:
      semantic logits [B, T, M-1, L] and last-level logits [B, T, C], float32.
    """
    B, M = len(user_B), self.levels
    chex.assert_shape(history_BxN, (B, None))
    chex.assert_shape(tokens_BxTxM, (B, None, M))
    memory = self.encode(
      vectors, user_B, history_BxN, train, profile_BxD, row_B
    )
    before_BxTxM = jnp.pad(tokens_BxTxM[..., :-1], [(0, 0), (0, 0), (1, 0)])
    x = self._embed(before_BxTxM, jnp.arange(M))
    x = self.input_dropout(x, not train, row_B)
    for layer, layer_memory in zip(
      self.decode_layers, memory.layers, strict=True
    ):
      x = layer(x, layer_memory, memory.mask_BxN, train, row_B)
    heads = self.semantic_heads.astype(self.dtype)
    semantic = jnp.einsum("btmd,mdl->btml", x[:, :, :-1], heads)
    semantic = semantic.astype(jnp.float32) + self.semantic_bias[None, None]
    return semantic, self.last_logits(x[:, :, -1])

  def empty_cache(self, batch: int, beams: int) -> list[attention.Seen]:
    """The decoder's cache before the first token, arrays [B, K, M, …]."""
    return [
      layer.empty_cache(batch, beams, self.levels)
      for layer in self.decode_layers
    ]

  def decode_step(
    self,
    token_BxK: jax.Array,
    step: jax.Array,
    cache: list[attention.Seen],
    memory: Memory,
  ) -> tuple[jax.Array, list[attention.Seen]]:
    """Hidden state of position `step` [B, K, D] and the cache with it added."""
    x = self._embed(token_BxK, step)
    new_cache = []
    for layer, layer_cache, layer_memory in zip(
      self.decode_layers, cache, memory.layers, strict=True
    ):
      x, layer_cache = layer.decode_step(
        x, step, layer_cache, layer_memory, memory.mask_BxN
      )
      new_cache.append(layer_cache)
    return x, new_cache

  def semantic_logits(self, x_BxKxD: jax.Array, step: jax.Array) -> jax.Array:
    """Logits of the semantic token at level `step`, float32 [B, K, L]."""
    logits = x_BxKxD @ self.semantic_heads[step].astype(self.dtype)
    return logits.astype(jnp.float32) + self.semantic_bias[step][None, None]

  def last_logits(self, x_BxKxD: jax.Array) -> jax.Array:
    """Logits of the last token, float32 [B, K, C]."""
    return self.last_head(x_BxKxD).astype(jnp.float32)


def profile_of(
  model: Generator, vectors: Vectors, history_BxH: jax.Array
) -> jax.Array | None:
  """`profile_BxD` of `encode` when nothing in a history is to be predicted."""
  if not model.user_token:
    return None
  return mean_of_history(vectors.item_IxD, history_BxH)
