"""Attention of the generator: relation-aware (paper eq. 14-19) and plain.

Arrays carry their axes: B batch, N or S sequence, H heads, W head width.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

xavier = nn.initializers.xavier_uniform()


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
  """
  logits = jnp.einsum("bshw,bnhw->bhsn", query_BxSxHxW, key_BxNxHxW)
  logits = logits.astype(jnp.float32) * scale
  mask = mask_BxSxN[:, None]
  logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
  weights = jax.nn.softmax(logits, axis=-1)
  weights = jnp.where(mask, weights, 0).astype(value_BxNxHxV.dtype)
  return jnp.einsum("bhsn,bnhv->bshv", weights, value_BxNxHxV)


def attend_few(
  query_XxSxHxW: jax.Array,
  key_XxMxHxW: jax.Array,
  value_XxMxHxW: jax.Array,
  mask_SxM: jax.Array,
  scale: float,
) -> jax.Array:
  """`attend` for a handful of keys, written out key by key. [X, S, H, W].

  The decoder attends to at most M = 4 tokens: as many elementwise products are
  about 4 times faster on CPU than thousands of 4 x 4 matrix products.
  """
  keys = range(key_XxMxHxW.shape[1])
  logits_XxSxHxM = jnp.stack(
    [(query_XxSxHxW * key_XxMxHxW[:, m, None]).sum(-1) for m in keys], axis=-1
  )
  logits_XxSxHxM = logits_XxSxHxM.astype(jnp.float32) * scale
  mask_SxHxM = mask_SxM[:, None]
  logits_XxSxHxM = jnp.where(mask_SxHxM, logits_XxSxHxM, -jnp.inf)
  weights = jax.nn.softmax(logits_XxSxHxM, axis=-1).astype(value_XxMxHxW.dtype)
  parts = [weights[..., m, None] * value_XxMxHxW[:, m, None] for m in keys]
  return sum(parts[1:], start=parts[0])


class Heads(nn.Module):
  """A linear map into H heads of width W, without bias. [..., H, W]."""

  heads: int
  head_width: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    return nn.DenseGeneral(
      (self.heads, self.head_width),
      use_bias=False,
      kernel_init=xavier,
      dtype=self.dtype,
    )(x)


class MergeHeads(nn.Module):
  """Concatenates the heads and maps them to `width`, without bias."""

  width: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x_BxSxHxW: jax.Array) -> jax.Array:
    return nn.DenseGeneral(
      self.width,
      axis=(-2, -1),
      use_bias=False,
      kernel_init=xavier,
      dtype=self.dtype,
    )(x_BxSxHxW)


class UserScalar(nn.Module):
  """The MLP of eq. 18: one number a user, [B, D] -> [B, 1, 1]."""

  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, h_user_BxD: jax.Array) -> jax.Array:
    dense = lambda width: nn.Dense(width, kernel_init=xavier, dtype=self.dtype)
    hidden_BxC = nn.relu(dense(max(h_user_BxD.shape[-1] // 2, 1))(h_user_BxD))
    return dense(1)(hidden_BxC)[:, None, :]


class RelationAttention(nn.Module):
  """Relation-aware self-attention, eq. 14-19, as one fused product.

  Eq. 17 adds two inner products, (e_i W^Q)(e_j W^K) and the user-specific
  (e_i W_u^Q)(e_j W_u^K). A sum of inner products is the inner product of the
  concatenations, so this is plain attention on q' = [q; q_u], k' = [k; k_u],
  v' = v + p. The user-specific parts are shared by all heads.
  """

  heads: int
  head_width: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self, e_BxNxD: jax.Array, h_user_BxD: jax.Array, mask_BxN: jax.Array
  ) -> jax.Array:
    """[B, N, D] -> [B, N, D]; items where `mask` is False are not seen."""
    shape = (*e_BxNxD.shape[:2], self.heads, self.head_width)

    def project(name: str) -> jax.Array:
      return Heads(self.heads, self.head_width, self.dtype, name=f"W_{name}")(
        e_BxNxD
      )

    def project_for_user(name: str) -> jax.Array:
      """e W_u of eq. 14 and 17, with W_u = MLP(h_u) U (eq. 18)."""
      scalar_Bx1x1 = UserScalar(self.dtype, name=f"s_{name}")(h_user_BxD)
      shared_BxNxW = nn.Dense(
        self.head_width,
        use_bias=False,
        kernel_init=xavier,
        dtype=self.dtype,
        name=f"U_{name}",
      )(e_BxNxD)
      return jnp.broadcast_to((scalar_Bx1x1 * shared_BxNxW)[:, :, None], shape)

    query = jnp.concatenate([project("q"), project_for_user("q")], axis=-1)
    key = jnp.concatenate([project("k"), project_for_user("k")], axis=-1)
    value = project("v") + project_for_user("v")
    scale = self.head_width**-0.5
    x = attend(query, key, value, mask_BxN[:, None], scale)
    return MergeHeads(e_BxNxD.shape[-1], self.dtype, name="W_o")(x)


class SelfAttention(nn.Module):
  """Plain multi-head self-attention, for the variants of Table 5."""

  heads: int
  head_width: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self, e_BxNxD: jax.Array, h_user_BxD: jax.Array, mask_BxN: jax.Array
  ) -> jax.Array:
    """As `RelationAttention`; the user is not looked at."""
    del h_user_BxD
    project = lambda name: Heads(
      self.heads, self.head_width, self.dtype, name=f"W_{name}"
    )(e_BxNxD)
    scale = self.head_width**-0.5
    x = attend(
      project("q"), project("k"), project("v"), mask_BxN[:, None], scale
    )
    return MergeHeads(e_BxNxD.shape[-1], self.dtype, name="W_o")(x)
