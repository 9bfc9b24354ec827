# PyTorch is optional: types are checked where it is installed.
# pyright: reportMissingImports=false

"""Layers of the reference Transformer, named as in its published state.

Arrays carry their axes: B batch, N history, T targets a user, K beams,
S decoder positions, M tokens so far, H heads, W head width, D width.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Keys and values [B, K, H, W] of one decoded position. Position 0 is S, the
# same for all beams of a user: it stays [B, 1, H, W].
KeyValue = tuple[Tensor, Tensor]
# Of the positions so far. Not one tensor: growing and reordering that one would
# copy all of it twice a step.
Cache = list[KeyValue]


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes; the defaults are the published ones.

  n_items does not count the padding row. vocabulary counts S and E.
  """

  n_users: int
  n_items: int
  vocabulary: int
  width: int = 64
  heads: int = 4
  head_width: int = 64
  feed_forward: int = 64
  encoder_layers: int = 2
  decoder_layers: int = 2
  dropout: float = 0.2


def linear(inputs: int, outputs: int) -> nn.Linear:
  return nn.Linear(inputs, outputs, bias=False)


def sinusoidal_positions(length: int, width: int) -> Tensor:
  """Positions of Vaswani et al. 2017, float32 [length, width]."""
  place = torch.arange(length, dtype=torch.float64)[:, None]
  rate = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
  angle = place * rate
  return torch.stack([angle.sin(), angle.cos()], -1).flatten(1).float()


def split_heads(x_BxSxC: Tensor, heads: int) -> Tensor:
  """[B, S, H W] to [B, H, S, W]."""
  return x_BxSxC.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x_BxHxSxW: Tensor) -> Tensor:
  """[B, H, S, W] to [B, S, H W]."""
  return x_BxHxSxW.transpose(1, 2).flatten(2)


class FeedForward(nn.Module):
  def __init__(self, config: Config):
    super().__init__()
    self.fc = nn.Sequential(
      linear(config.width, config.feed_forward),
      nn.ReLU(),
      linear(config.feed_forward, config.width),
    )

  def forward(self, x: Tensor) -> Tensor:
    return self.fc(x)


class AddAndNorm(nn.Module):
  """Residual connection around a sub-layer, then LayerNorm without scale."""

  def __init__(self, config: Config):
    super().__init__()
    self.dropout = nn.Dropout(config.dropout)

  def forward(self, x: Tensor, sublayer: Tensor) -> Tensor:
    return F.layer_norm(x + self.dropout(sublayer), x.shape[-1:])


class Attention(nn.Module):
  """Multi-head attention of the decoder: all heads in one product."""

  def __init__(self, config: Config):
    super().__init__()
    self.heads = config.heads
    inner = config.heads * config.head_width
    self.W_Q = linear(config.width, inner)
    self.W_K = linear(config.width, inner)
    self.W_V = linear(config.width, inner)
    self.fc = linear(inner, config.width)

  def keys_values(self, x_BxNxD: Tensor) -> tuple[Tensor, Tensor]:
    """What can be attended to, both [B, H, N, W]."""
    key, value = self.W_K(x_BxNxD), self.W_V(x_BxNxD)
    return split_heads(key, self.heads), split_heads(value, self.heads)

  def forward(
    self,
    x_BxSxD: Tensor,
    keys_values: tuple[Tensor, Tensor],
    bias: Tensor | None = None,
    is_causal: bool = False,
  ) -> Tensor:
    """[B, S, D]. `bias` is added to the scores [B, H, S, N]."""
    query_BxHxSxW = split_heads(self.W_Q(x_BxSxD), self.heads)
    seen_BxHxSxW = F.scaled_dot_product_attention(
      query_BxHxSxW, *keys_values, attn_mask=bias, is_causal=is_causal
    )
    return self.fc(merge_heads(seen_BxHxSxW))

  def step(self, x_BxKxD: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
    """One position of K beams attends to itself and those before, [B, K, D].

    Elementwise: for a handful of keys faster on CPU than thousands of small
    matrix products, and few fused kernels when compiled.
    """
    query, key, value = [
      project(x_BxKxD).unflatten(-1, (self.heads, -1))
      for project in (self.W_Q, self.W_K, self.W_V)
    ]
    cache = [*cache, (key, value)]
    query = query * query.shape[-1] ** -0.5
    score_BxKxHxM = torch.stack([(query * k).sum(-1) for k, _ in cache], -1)
    weight_BxKxHxM = score_BxKxHxM.softmax(-1)
    seen_BxKxHxW = torch.zeros_like(value)
    for m, (_, v) in enumerate(cache):
      seen_BxKxHxW = seen_BxKxHxW.addcmul(weight_BxKxHxM[..., m, None], v)
    return self.fc(seen_BxKxHxW.flatten(2)), cache


class EncoderLayer(nn.Module):
  """Relation-aware self-attention (eq. 14-19), then a feed-forward."""

  def __init__(self, config: Config):
    super().__init__()
    width, head_width = config.width, config.head_width
    inner = config.heads * head_width
    self.heads, self.scale = config.heads, head_width**-0.5
    self.enc_self_attn = Attention(config)  # as published: never used
    self.pos_ffn = FeedForward(config)
    self.W_Q, self.W_K = linear(width, inner), linear(width, inner)
    self.W_V = linear(width, inner)
    self.U_Q, self.U_K = linear(width, head_width), linear(width, head_width)
    self.U_V = linear(width, head_width)
    scalar = lambda: nn.Sequential(
      linear(width, width // 2), nn.ReLU(), linear(width // 2, 1)
    )
    self.sca_q, self.sca_k, self.sca_v = scalar(), scalar(), scalar()
    self.fc = linear(inner, width)
    self.norms = nn.ModuleList([AddAndNorm(config) for _ in range(2)])

  def forward(
    self, x_BxNxD: Tensor, user_Bx1xD: Tensor, bias_Bx1x1xN: Tensor
  ) -> Tensor:
    """[B, N, D]; `bias` is -1e9 where there is padding, else 0."""
    query, key, value = [
      split_heads(project(x_BxNxD), self.heads)
      for project in (self.W_Q, self.W_K, self.W_V)
    ]
    user_query, user_key, user_value = [
      scalar(user_Bx1xD) * project(x_BxNxD)
      for scalar, project in (
        (self.sca_q, self.U_Q),
        (self.sca_k, self.U_K),
        (self.sca_v, self.U_V),
      )
    ]
    # The user-specific scores are the same for all heads: a bias, [B, N, N].
    relation_BxNxN = torch.baddbmm(
      bias_Bx1x1xN[:, 0], user_query, user_key.mT, alpha=self.scale
    )
    seen_BxHxNxW = F.scaled_dot_product_attention(
      query,
      key,
      value + user_value[:, None],
      attn_mask=relation_BxNxN[:, None],
    )
    x = self.norms[0](x_BxNxD, self.fc(merge_heads(seen_BxHxNxW)))
    return self.norms[1](x, self.pos_ffn(x))


class DecoderLayer(nn.Module):
  """Causal self-attention, cross-attention, feed-forward."""

  def __init__(self, config: Config):
    super().__init__()
    self.dec_self_attn = Attention(config)
    self.dec_enc_attn = Attention(config)
    self.pos_ffn = FeedForward(config)
    self.norms = nn.ModuleList([AddAndNorm(config) for _ in range(3)])

  def forward(
    self,
    x_BxTxSxD: Tensor,
    memory: tuple[Tensor, Tensor],
    bias_Bx1x1xN: Tensor,
  ) -> Tensor:
    """T sequences a user share that user's memory, [B, T, S, D]."""
    flat = x_BxTxSxD.flatten(0, 1)
    own = self.dec_self_attn.keys_values(flat)
    seen = self.dec_self_attn(flat, own, is_causal=True)
    return self._after_self(
      x_BxTxSxD, seen.view_as(x_BxTxSxD), memory, bias_Bx1x1xN
    )

  def step(
    self,
    x_BxKxD: Tensor,
    cache: Cache,
    memory: tuple[Tensor, Tensor],
    bias_Bx1x1xN: Tensor,
  ) -> tuple[Tensor, Cache]:
    """One position of K beams, [B, K, D], and the cache with it added."""
    seen, cache = self.dec_self_attn.step(x_BxKxD, cache)
    return self._after_self(x_BxKxD, seen, memory, bias_Bx1x1xN), cache

  def _after_self(
    self,
    x: Tensor,
    seen: Tensor,
    memory: tuple[Tensor, Tensor],
    bias_Bx1x1xN: Tensor,
  ) -> Tensor:
    """The rest; all of a user's queries read the memory in one product."""
    x = self.norms[0](x, seen)
    seen = self.dec_enc_attn(x.flatten(1, -2), memory, bias_Bx1x1xN)
    x = self.norms[1](x, seen.view_as(x))
    return self.norms[2](x, self.pos_ffn(x))
