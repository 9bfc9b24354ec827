"""Attention of the generator: relation-aware (paper eq. 14-19) and plain.

Arrays carry their axes: B batch, N or S sequence, H heads, W head width.

Each attention has two forms with the same parameters and the same result.
Plain: queries, keys and values, as the paper writes them. Folded: since
(x W_q)(y W_k)^T = (x W_q W_k^T) y^T, a head's query map takes in its key map,
and its output map takes in its value map. Keys and values are then y itself,
one array that all heads and layers share; worth it while W is near D.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

xavier = nn.initializers.xavier_uniform()
_into_heads = nn.initializers.xavier_uniform(in_axis=0, out_axis=(1, 2))
_out_of_heads = nn.initializers.xavier_uniform(in_axis=(0, 1), out_axis=2)

# What queries look at: keys first, values last; folded they are one array.
Seen = tuple[jax.Array, ...]


def attend(
  query_BxSxHxW: jax.Array,
  key_BxNxHxW: jax.Array,
  value_BxNxHxV: jax.Array,
  mask_BxSxN: jax.Array,
  scale: float,
) -> jax.Array:
  """Scaled dot-product attention, weights in float32. [B, S, H, V].

  `mask` (True = may be seen) broadcasts over B and S. A query that may see
  nothing gets 0: an empty history is no information, not an average of padding.
  Keys and values with one head serve all heads of the query.
  """
  by_head = key_BxNxHxW.shape[2] > 1
  if not by_head:
    key_BxNxHxW, value_BxNxHxV = key_BxNxHxW[:, :, 0], value_BxNxHxV[:, :, 0]
  h = "h" if by_head else ""
  logits = jnp.einsum(f"bshw,bn{h}w->bshn", query_BxSxHxW, key_BxNxHxW)
  logits = logits.astype(jnp.float32) * scale
  mask = mask_BxSxN[:, :, None]
  logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
  weights = jax.nn.softmax(logits, axis=-1)
  anything = mask.any(axis=-1, keepdims=True)
  weights = jnp.where(anything, weights, 0).astype(value_BxNxHxV.dtype)
  return jnp.einsum(f"bshn,bn{h}v->bshv", weights, value_BxNxHxV)


def attend_few(
  query_XxHxW: jax.Array,
  key_XxMxHxW: jax.Array,
  value_XxMxHxW: jax.Array,
  mask_M: jax.Array,
  scale: float,
) -> jax.Array:
  """`attend` of one query to a handful of keys, key by key. [X, H, W].

  In decoding each beam sees at most M = 4 tokens: elementwise products are
  about twice as fast on CPU as thousands of 1 x 4 matrix products.
  """
  keys = range(key_XxMxHxW.shape[1])
  logits_XxHxM = jnp.stack(
    [_inner(query_XxHxW, key_XxMxHxW[:, m]) for m in keys], axis=-1
  )
  logits_XxHxM = logits_XxHxM.astype(jnp.float32) * scale
  logits_XxHxM = jnp.where(mask_M[None, None], logits_XxHxM, -jnp.inf)
  weights = jax.nn.softmax(logits_XxHxM, axis=-1).astype(value_XxMxHxW.dtype)
  parts = [weights[..., m, None] * value_XxMxHxW[:, m] for m in keys]
  return sum(parts[1:], start=parts[0])


def _inner(a: jax.Array, b: jax.Array) -> jax.Array:
  """Inner products over the last axis, summed by halves.

  XLA's CPU reduction of a short last axis is several times slower.
  """
  product = a * b
  while product.shape[-1] > 8 and product.shape[-1] % 2 == 0:
    half = product.shape[-1] // 2
    product = product[..., :half] + product[..., half:]
  return sum(
    (product[..., i] for i in range(1, product.shape[-1])),
    start=product[..., 0],
  )


def join_heads(heads: jax.Array, weight_HxWxC: jax.Array) -> jax.Array:
  """The sum of each head's product, [..., H, W] -> [..., C].

  As one matrix product: of an einsum, XLA's CPU would first write out all
  heads in another order.
  """
  H, W, C = weight_HxWxC.shape
  return heads.reshape(*heads.shape[:-2], H * W) @ weight_HxWxC.reshape(-1, C)


class Attention(nn.Module):
  """Multi-head attention without biases, in its parts.

  Attributes:
    width: D, of what comes in and goes out.
    heads, head_width: H and W.
    folded: see the top of this file.
  """

  width: int
  heads: int
  head_width: int
  dtype: DTypeLike = jnp.float32
  folded: bool = False

  def setup(self):
    D, H, W = self.width, self.heads, self.head_width
    weight = lambda name, init, *shape: self.param(name, init, shape)
    self.W_q, self.W_k, self.W_v = (
      weight(f"W_{name}", _into_heads, D, H, W).astype(self.dtype)
      for name in "qkv"
    )
    self.W_o = weight("W_o", _out_of_heads, H, W, D).astype(self.dtype)

  @property
  def scale(self) -> float:
    return self.head_width**-0.5

  def query(self, x: jax.Array) -> jax.Array:
    """[..., D] to [..., H, W], or folded to [..., H, D]."""
    weight = self.W_q
    if self.folded:
      weight = jnp.einsum("ahw,bhw->ahb", self.W_q, self.W_k)
    return jnp.einsum("...d,dhw->...hw", x, weight)

  def seen(self, x: jax.Array) -> Seen:
    """Keys and values of [..., D], each [..., H, W]; folded [..., 1, D]."""
    if self.folded:
      return (x[..., None, :],)
    project = lambda weight: jnp.einsum("...d,dhw->...hw", x, weight)
    return project(self.W_k), project(self.W_v)

  def merge(self, heads: jax.Array) -> jax.Array:
    """What each head has read, [..., H, W or D], to the output [..., D]."""
    return join_heads(heads, self.output_map())

  def output_map(self) -> jax.Array:
    """W_o, [H, W, D], or folded [H, D, D]."""
    if self.folded:
      return jnp.einsum("ahw,hwb->hab", self.W_v, self.W_o)
    return self.W_o


class UserScalar(nn.Module):
  """The MLP of eq. 18: one number a user, [B, D] -> [B, 1, 1, 1]."""

  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, h_user_BxD: jax.Array) -> jax.Array:
    dense = lambda width: nn.Dense(width, kernel_init=xavier, dtype=self.dtype)
    hidden_BxC = nn.relu(dense(max(h_user_BxD.shape[-1] // 2, 1))(h_user_BxD))
    return dense(1)(hidden_BxC)[:, None, None, :]


class SelfAttention(nn.Module):
  """Plain multi-head self-attention, for the variants of Table 5."""

  heads: int
  head_width: int
  dtype: DTypeLike = jnp.float32
  folded: bool = False

  @nn.compact
  def __call__(
    self, e_BxNxD: jax.Array, h_user_BxD: jax.Array, mask_BxN: jax.Array
  ) -> jax.Array:
    """As `RelationAttention`; the user is not looked at."""
    del h_user_BxD
    own = Attention(
      e_BxNxD.shape[-1],
      self.heads,
      self.head_width,
      self.dtype,
      self.folded,
      name="own",
    )
    seen = own.seen(e_BxNxD)
    x = attend(
      own.query(e_BxNxD), seen[0], seen[-1], mask_BxN[:, None], own.scale
    )
    return own.merge(x)


class RelationAttention(nn.Module):
  """Relation-aware self-attention, eq. 14-19.

  Eq. 17 adds two inner products, (e_i W^Q)(e_j W^K) and the user-specific
  (e_i W_u^Q)(e_j W_u^K), where W_u = MLP(h_u) U (eq. 18) is shared by all
  heads. A sum of inner products is the inner product of the concatenations,
  so this is plain attention on q' = [q; q_u], k' = [k; k_u], v' = v + p.
  """

  heads: int
  head_width: int
  dtype: DTypeLike = jnp.float32
  folded: bool = False

  @nn.compact
  def __call__(
    self, e_BxNxD: jax.Array, h_user_BxD: jax.Array, mask_BxN: jax.Array
  ) -> jax.Array:
    """[B, N, D] -> [B, N, D]; items where `mask` is False are not seen."""
    D, W = e_BxNxD.shape[-1], self.head_width
    own = Attention(D, self.heads, W, self.dtype, self.folded, name="own")
    U_q, U_k, U_v = (
      self.param(f"U_{n}", xavier, (D, W)).astype(self.dtype) for n in "qkv"
    )
    s_q, s_k, s_v = (
      UserScalar(self.dtype, name=f"s_{n}")(h_user_BxD) for n in "qkv"
    )
    query, seen = own.query(e_BxNxD), own.seen(e_BxNxD)
    if self.folded:
      query_u_BxNxD = e_BxNxD @ (U_q @ U_k.T)
      query = query + s_q * s_k * query_u_BxNxD[:, :, None]
      x = attend(query, seen[0], seen[-1], mask_BxN[:, None], own.scale)
      # Both output maps in one product, which is faster than two.
      for_user_HxDxD = jnp.einsum("aw,hwb->hab", U_v, own.W_o)
      both = jnp.concatenate([own.output_map(), for_user_HxDxD], axis=-1)
      out, out_u = jnp.split(join_heads(x, both), 2, axis=-1)
      return out + s_v[:, 0] * out_u
    shape = query.shape
    for_user = lambda scalar, U: jnp.broadcast_to(
      scalar * (e_BxNxD @ U)[:, :, None], shape
    )
    query = jnp.concatenate([query, for_user(s_q, U_q)], axis=-1)
    key = jnp.concatenate([seen[0], for_user(s_k, U_k)], axis=-1)
    value = seen[-1] + for_user(s_v, U_v)
    x = attend(query, key, value, mask_BxN[:, None], own.scale)
    return own.merge(x)
