"""Sums and products over a graph's edges, for weights that the edges have.

Edges are two arrays, sender_E and receiver_E, in any order. What makes weights
of logits is `graph.segment_softmax`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

# Edges at a time in sums and products over edges: on a CPU, what a few of them
# read stays in the cache, where E x D numbers would be written out first.
CHUNK = 512


def edge_sum(
  weight_ExH: jax.Array,
  h_SxHxD: jax.Array,
  sender_E: jax.Array,
  receiver_E: jax.Array,
  n_receivers: int,
) -> jax.Array:
  """What arrives at each receiver: the sum of weight * h[sender]. [R, H, D].

  H heads (or modalities), each with its own weights and vectors.
  """
  out: Any = _edge_sum(weight_ExH, h_SxHxD, sender_E, receiver_E, n_receivers)
  return out


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _edge_sum(weight_ExH, h_SxHxD, sender_E, receiver_E, n_receivers):
  def add(sum_RxHxD, chunk):
    weight_CxH, sender_C, receiver_C = chunk
    part_CxHxD = weight_CxH[..., None] * h_SxHxD[sender_C]
    return sum_RxHxD.at[receiver_C].add(part_CxHxD), None

  zero_RxHxD = jnp.zeros_like(h_SxHxD, shape=(n_receivers, *h_SxHxD.shape[1:]))
  chunks = _in_chunks(weight_ExH, sender_E, receiver_E)
  return jax.lax.scan(add, zero_RxHxD, chunks)[0]


@jax.custom_vjp
def edge_dot(
  x_SxHxD: jax.Array,
  y_RxHxD: jax.Array,
  sender_E: jax.Array,
  receiver_E: jax.Array,
) -> jax.Array:
  """x[sender] . y[receiver] of each edge and head. [E, H]."""
  # A product with ones: on a CPU, XLA reads and adds up in one slow loop.
  ones_D = jnp.ones_like(x_SxHxD, shape=x_SxHxD.shape[-1:])

  def dot(chunk):
    sender_C, receiver_C = chunk
    product_CxHxD = x_SxHxD[sender_C] * y_RxHxD[receiver_C]
    return jnp.dot(product_CxHxD, ones_D, precision="highest")

  dots = jax.lax.map(dot, _in_chunks(sender_E, receiver_E))
  return dots.reshape(-1, dots.shape[-1])[: len(sender_E)]


def _in_chunks(*arrays_E: jax.Array) -> list[jax.Array]:
  """[E, ...] -> [E / C, C, ...], filled up with zeros."""
  n = len(arrays_E[0])
  size = min(CHUNK, n) if jax.default_backend() == "cpu" else n
  size = max(size, 1)
  chunks = -(-n // size)

  def cut(array):
    padding = [(0, chunks * size - n)] + [(0, 0)] * (array.ndim - 1)
    return jnp.pad(array, padding).reshape(chunks, size, *array.shape[1:])

  return [cut(array) for array in arrays_E]


# Each one's gradient is made of the two again, so that neither pass ever holds
# E x D numbers.
def _edge_sum_forward(weight, h, sender, receiver, n_receivers):
  out = _edge_sum(weight, h, sender, receiver, n_receivers)
  return out, (weight, h, sender, receiver)


def _edge_sum_backward(n_receivers, saved, g_RxHxD):
  del n_receivers
  weight, h, sender, receiver = saved
  return (
    edge_dot(h, g_RxHxD, sender, receiver),
    edge_sum(weight, g_RxHxD, receiver, sender, len(h)),
    None,
    None,
  )


def _edge_dot_forward(x, y, sender, receiver):
  return edge_dot(x, y, sender, receiver), (x, y, sender, receiver)


def _edge_dot_backward(saved, g_ExH):
  x, y, sender, receiver = saved
  return (
    edge_sum(g_ExH, y, receiver, sender, len(x)),
    edge_sum(g_ExH, x, sender, receiver, len(y)),
    None,
    None,
  )


_edge_sum.defvjp(_edge_sum_forward, _edge_sum_backward)
edge_dot.defvjp(_edge_dot_forward, _edge_dot_backward)
