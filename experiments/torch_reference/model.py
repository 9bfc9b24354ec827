# PyTorch is optional: types are checked where it is installed.
# pyright: reportMissingImports=false

"""The generator of the authors' published code, in PyTorch.

Written from the paper (eq. 14-19). What the paper leaves open was found by
matching an independent run of the published model (encoder output, logits,
loss and all gradients agree):

- Linear maps are `x W^T` without bias, also U of eq. 18. The heads' outputs
  stand side by side, head h in columns h W to (h + 1) W.
- Encoder input: item embeddings as they are. No position, no factor sqrt(D).
- Relation-aware scores: the user-specific product, shared by the heads, is
  inside the scaling: (Q K^T + Q_u K_u^T) / sqrt(W).
- Padding is masked as a key, in the encoder and in cross-attention. As a query
  it is computed like any item, and then never read.
- Post-LN; LayerNorm (eps 1e-5) has no learned scale or shift.
- Decoder input: token embedding plus sinusoidal position, sines in the even
  columns, S at position 0. No factor sqrt(D).
- Token vocabulary shared by all levels; S = V - 2 begins, E = V - 1 ends.
- Item and user embeddings are frozen. Row 0 of the item table is padding.
- `enc_self_attn` in the encoder layers exists and is never used.

The known run has no dropout, so it cannot tell where the authors drop. Here:
after the input embeddings and after every sub-layer, as in our JAX model.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from experiments.torch_reference.layers import (
  Cache,
  Config,
  DecoderLayer,
  EncoderLayer,
  linear,
  sinusoidal_positions,
)

MAX_POSITIONS = 64
# Added to the scores of padding: finite, so that an empty history is no NaN.
MASKED = -1e9


class Encoder(nn.Module):
  def __init__(self, config: Config):
    super().__init__()
    self.src_emb = nn.Embedding(config.n_items + 1, config.width, padding_idx=0)
    self.user_emb = nn.Embedding(config.n_users, config.width)
    for table in (self.src_emb, self.user_emb):
      table.weight.requires_grad_(False)
    self.dropout = nn.Dropout(config.dropout)
    self.layers = nn.ModuleList(
      [EncoderLayer(config) for _ in range(config.encoder_layers)]
    )

  def forward(
    self, user_B: Tensor, history_BxN: Tensor
  ) -> tuple[Tensor, Tensor]:
    """Encoded items [B, N, D] and the bias [B, 1, 1, N] that hides padding.

    history_BxN: items counted from 0; -1 is padding.
    """
    x = self.dropout(self.src_emb(history_BxN + 1))
    bias_BxN = torch.where(history_BxN >= 0, 0.0, MASKED).to(x.dtype)
    bias_Bx1x1xN = bias_BxN[:, None, None]
    user_Bx1xD = self.user_emb(user_B)[:, None]
    for layer in self.layers:
      x = layer(x, user_Bx1xD, bias_Bx1x1xN)
    return x, bias_Bx1x1xN


class Decoder(nn.Module):
  positions: Tensor

  def __init__(self, config: Config):
    super().__init__()
    self.tgt_emb = nn.Embedding(config.vocabulary, config.width)
    positions = sinusoidal_positions(MAX_POSITIONS, config.width)
    self.register_buffer("positions", positions, persistent=False)
    self.dropout = nn.Dropout(config.dropout)
    layers = nn.ModuleList(
      [DecoderLayer(config) for _ in range(config.decoder_layers)]
    )
    self.layers = cast(Sequence[DecoderLayer], layers)

  def memories(self, memory_BxNxD: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Each layer's keys and values of the encoded history."""
    return [
      layer.dec_enc_attn.keys_values(memory_BxNxD) for layer in self.layers
    ]

  def forward(
    self, tokens_BxTxS: Tensor, memory_BxNxD: Tensor, bias_Bx1x1xN: Tensor
  ) -> Tensor:
    """Hidden states of T sequences a user, [B, T, S, D]."""
    places_SxD = self.positions[: tokens_BxTxS.shape[-1]]
    x = self.dropout(self.tgt_emb(tokens_BxTxS) + places_SxD)
    memories = self.memories(memory_BxNxD)
    for layer, memory in zip(self.layers, memories, strict=True):
      x = layer(x, memory, bias_Bx1x1xN)
    return x

  def step(
    self,
    token_BxK: Tensor,
    position: int,
    caches: list[Cache],
    memories: list[tuple[Tensor, Tensor]],
    bias_Bx1x1xN: Tensor,
  ) -> tuple[Tensor, list[Cache]]:
    """Hidden state of one position [B, K, D], and the caches with it added.

    Evaluation only: without dropout it equals `forward` at that position.
    """
    x = self.tgt_emb(token_BxK) + self.positions[position]
    grown = []
    for layer, cache, memory in zip(self.layers, caches, memories, strict=True):
      x, cache = layer.step(x, cache, memory, bias_Bx1x1xN)
      grown.append(cache)
    return x, grown


class TorchMMGRec(nn.Module):
  """Encoder over a history, decoder over Rec-ID tokens."""

  def __init__(self, config: Config):
    super().__init__()
    self.config = config
    self.encoder = Encoder(config)
    self.decoder = Decoder(config)
    self.projection = linear(config.width, config.vocabulary)

  @property
  def start_token(self) -> int:
    """S, the first token the decoder reads."""
    return self.config.vocabulary - 2

  @property
  def end_token(self) -> int:
    """E, the last token the decoder is to say."""
    return self.config.vocabulary - 1

  def forward(
    self, user_B: Tensor, history_BxN: Tensor, tokens_BxTxS: Tensor
  ) -> Tensor:
    """Teacher forcing: T targets a user share one encoding.

    Args:
      history_BxN: int64 items, counted from 0; -1 is padding.
      tokens_BxTxS: int64 decoder inputs, S first.

    Returns:
      logits [B, T, S, V].
    """
    memory_BxNxD, bias_Bx1x1xN = self.encoder(user_B, history_BxN)
    x = self.decoder(tokens_BxTxS, memory_BxNxD, bias_Bx1x1xN)
    return self.projection(x)
