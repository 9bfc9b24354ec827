"""Attention over neighbours (Velickovic et al. 2018), in both graph forms.

As in graph.py, edges (`segment`) are the reference, `Ell` is faster on a CPU.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from mmgrec_jax.graph import Ell, Graph, Rows, segment_softmax

SLOPE = 0.2  # of LeakyReLU
NOTHING = -1e30  # the logit of a neighbour that is not there


class GraphAttention(nn.Module):
  """h_i = sum_j alpha_ij z_j + b over i and its neighbours j, by head (eq. 3,
  5): z = W h, alpha_i = softmax_j LeakyReLU(a_source . z_j + a_target . z_i).
  """

  features: int  # of all heads together
  heads: int = 1

  @nn.compact
  def __call__(self, graph: Graph, h_NxC: jax.Array) -> jax.Array:
    """[N, C] -> [N, features]."""
    init = nn.initializers.xavier_uniform()
    z_NxF = nn.Dense(self.features, use_bias=False, kernel_init=init, name="W")(
      h_NxC
    )
    z_NxHxD = z_NxF.reshape(len(z_NxF), self.heads, -1)
    vector = lambda name: self.param(name, init, z_NxHxD.shape[1:])
    score = lambda name: (z_NxHxD * vector(name)[None]).sum(axis=-1)
    h_NxHxD = attend(graph, score("source"), score("target"), z_NxHxD)
    bias_F = self.param("bias", nn.initializers.zeros, (self.features,))
    return h_NxHxD.reshape(z_NxF.shape) + bias_F[None]


def attend(
  graph: Graph, source_NxH: jax.Array, target_NxH: jax.Array, z_NxHxD: jax.Array
) -> jax.Array:
  """Mean of z over each node and its neighbours, weighted by
  softmax_j LeakyReLU(source_j + target_i). [N, H, D].
  """
  N = len(z_NxHxD)
  if not isinstance(graph, Ell):
    assert graph.senders is not None and graph.receivers is not None
    itself_N = jnp.arange(N)
    sender_E = jnp.concatenate([graph.senders, itself_N])
    receiver_E = jnp.concatenate([graph.receivers, itself_N])
    logits_ExH = _leaky(source_NxH[sender_E] + target_NxH[receiver_E])
    alpha_ExH = segment_softmax(logits_ExH, receiver_E, N)
    return jax.ops.segment_sum(
      alpha_ExH[..., None] * z_NxHxD[sender_E], receiver_E, N
    )
  U = len(graph.of_users.degree_N)
  sides = (
    _attend(
      graph.of_users, graph.of_items, source_NxH[U:], target_NxH[:U],
      z_NxHxD[U:],
    ),
    _attend(
      graph.of_items, graph.of_users, source_NxH[:U], target_NxH[U:],
      z_NxHxD[:U],
    ),
  )  # fmt: skip
  mean_NxHxD, log_sum_NxH = map(jnp.concatenate, zip(*sides, strict=True))
  own_NxH = nn.sigmoid(_leaky(source_NxH + target_NxH) - log_sum_NxH)
  return mean_NxHxD + own_NxH[..., None] * (z_NxHxD - mean_NxHxD)


def _leaky(x: jax.Array) -> jax.Array:
  return jnp.where(x > 0, x, SLOPE * x)


def _slope(x: jax.Array) -> jax.Array:
  return jnp.where(x > 0, 1.0, SLOPE)


@struct.dataclass
class _Places:
  """Both parts of `Rows` as one, P = N + R rows."""

  index_WxP: jax.Array
  owner_R: jax.Array

  @classmethod
  def of(cls, rows: Rows) -> "_Places":
    parts = [rows.first_WxN, rows.more_WxR]
    return cls(jnp.concatenate(parts, axis=1), rows.owner_R)

  @property
  def n(self) -> int:
    """N."""
    return self.index_WxP.shape[1] - len(self.owner_R)

  def neighbours(self, x_SxH: jax.Array, missing: float = 0.0) -> jax.Array:
    """[W, P, H]; `missing` where there is none."""
    padding = ((0, 1), (0, 0))
    return jnp.pad(x_SxH, padding, constant_values=missing)[self.index_WxP]

  def owners(self, x_NxH: jax.Array) -> jax.Array:
    """[1, P, H]."""
    return jnp.concatenate([x_NxH, x_NxH[self.owner_R]])[None]

  def add_up(self, x_Px: jax.Array) -> jax.Array:
    """Sum of each node's rows, [P, ...] to [N, ...]."""
    return x_Px[: self.n].at[self.owner_R].add(x_Px[self.n :])

  def weigh(
    self, weight_WxPxH: jax.Array, h_SxHxD: jax.Array, missing: float = 0.0
  ) -> jax.Array:
    """Sum of each node's neighbours times their weights. [N, H, D].

    missing: what is read, with weight 0, where there is none.
    """
    padding = ((0, 1), (0, 0), (0, 0))
    h_S1xHxD = jnp.pad(h_SxHxD, padding, constant_values=missing)

    # Unrolled, as the sums of graph.py and for the same reason.
    def sum_rows(part: slice):
      terms = [
        weight_PxH[part, :, None] * h_S1xHxD[index_P[part]]
        for weight_PxH, index_P in zip(
          weight_WxPxH, self.index_WxP, strict=True
        )
      ]
      return functools.reduce(jnp.add, terms)

    # Apart, or the reads would serve both parts, and XLA would write them out.
    more_RxHxD = sum_rows(slice(self.n, None))
    return sum_rows(slice(self.n)).at[self.owner_R].add(more_RxHxD)

  def weigh_twice(self, a_WxPxH, b_WxPxH, h_SxHxD):
    """`weigh` by a and by b."""
    # Of two tables, or the sums would share their reads, see there.
    return self.weigh(a_WxPxH, h_SxHxD), self.weigh(b_WxPxH, h_SxHxD, 1.0)


def _softmax(rows: _Places, source_SxH: jax.Array, target_NxH: jax.Array):
  """alpha and the slope of each of its logits, [W, P, H], and the logits'
  log sum exp, which is finite without neighbours too. [N, H].
  """
  x_WxPxH = rows.neighbours(source_SxH, NOTHING) + rows.owners(target_NxH)
  logit_WxPxH = _leaky(x_WxPxH)
  top_PxH = logit_WxPxH.max(axis=0)
  top_NxH = top_PxH[: rows.n].at[rows.owner_R].max(top_PxH[rows.n :])
  sum_PxH = jnp.exp(logit_WxPxH - rows.owners(top_NxH)).sum(axis=0)
  log_sum_NxH = top_NxH + jnp.log(rows.add_up(sum_PxH))
  log_sum_NxH = jnp.maximum(log_sum_NxH, 0.1 * NOTHING)
  alpha_WxPxH = jnp.exp(logit_WxPxH - rows.owners(log_sum_NxH))
  return alpha_WxPxH, _slope(x_WxPxH), log_sum_NxH


@jax.custom_vjp
def _attend(
  there: Rows, back: Rows, source_SxH, target_NxH, z_SxHxD
) -> tuple[jax.Array, jax.Array]:
  """Softmax-weighted mean of the neighbours, and the logits' log sum exp."""
  return _attend_forward(there, back, source_SxH, target_NxH, z_SxHxD)[0]


def _attend_forward(there, back, source_SxH, target_NxH, z_SxHxD):
  """Also, for the backward pass, the same sums with alpha times slope."""
  rows = _Places.of(there)
  alpha_WxPxH, slope_WxPxH, log_sum_NxH = _softmax(rows, source_SxH, target_NxH)
  steep_WxPxH = alpha_WxPxH * slope_WxPxH
  mean_NxHxD, steep_NxHxD = rows.weigh_twice(alpha_WxPxH, steep_WxPxH, z_SxHxD)
  steep_NxH = rows.add_up(steep_WxPxH.sum(axis=0))
  saved = (back, source_SxH, target_NxH, z_SxHxD, log_sum_NxH, mean_NxHxD)
  return (mean_NxHxD, log_sum_NxH), (*saved, steep_NxHxD, steep_NxH)


def _attend_backward(saved, gradients):
  """Gathers along `back`, where autodiff would scatter every edge.

  With g of node i's mean and l of its log sum, the gradient of logit ij is
  alpha_ij (g_i . z_j + c_i), c_i = l_i - g_i . mean_i.
  """
  back, source_SxH, target_NxH, z_SxHxD, log_sum_NxH, *sums = saved
  mean_NxHxD, steep_NxHxD, steep_NxH = sums
  g_NxHxD, l_NxH = gradients
  dot = lambda a, b: (a * b).sum(axis=-1)
  c_NxH = l_NxH - dot(g_NxHxD, mean_NxHxD)
  of_target_NxH = dot(g_NxHxD, steep_NxHxD) + c_NxH * steep_NxH

  rows = _Places.of(back)
  x_WxPxH = rows.neighbours(target_NxH, NOTHING) + rows.owners(source_SxH)
  alpha_WxPxH = jnp.exp(_leaky(x_WxPxH) - rows.neighbours(log_sum_NxH))
  steep_WxPxH = alpha_WxPxH * _slope(x_WxPxH)
  of_z_SxHxD, steep_SxHxD = rows.weigh_twice(alpha_WxPxH, steep_WxPxH, g_NxHxD)
  c_SxH = rows.add_up((steep_WxPxH * rows.neighbours(c_NxH)).sum(axis=0))
  of_source_SxH = dot(steep_SxHxD, z_SxHxD) + c_SxH
  return None, None, of_source_SxH, of_target_NxH, of_z_SxHxD


_attend.defvjp(_attend_forward, _attend_backward)
