"""A sparse square matrix of each row's nearest others; never a dense one."""

import jax
import jax.numpy as jnp
from flax import struct

from mmgrec_jax.decoding.top_k import top_k

CHUNK = 256  # rows compared with all others at a time


@struct.dataclass
class SparseRows:
  """A matrix [R, R] with C entries in a row; those of one place add up.

  index_RxC: int32, their columns.  weight_RxC: their values.
  """

  index_RxC: jax.Array
  weight_RxC: jax.Array


def nearest(x_RxF: jax.Array, k: int) -> jax.Array:
  """The k rows with the largest inner product, exact. int32 [R, k].

  Of equal ones those of the lowest index.
  """
  k = min(k, len(x_RxF))
  # Chunks of even size: the more rows, the more chunks, of the same memory.
  chunks = -(-len(x_RxF) // CHUNK)
  size = -(-len(x_RxF) // chunks)
  padding = [(0, chunks * size - len(x_RxF)), (0, 0)]
  x_GxSxF = jnp.pad(x_RxF, padding).reshape(chunks, size, -1)

  def of_chunk(x_SxF):
    # In full precision, which GPUs and TPUs take for products only when asked.
    return top_k(jnp.matmul(x_SxF, x_RxF.T, precision="highest"), k)[1]

  index_GxSxk = jax.lax.map(of_chunk, x_GxSxF)
  return index_GxSxk.reshape(-1, k)[: len(x_RxF)]


def inner_products(x_RxF: jax.Array, index_RxC: jax.Array) -> jax.Array:
  """Of each row and those it names. [R, C]."""

  @jax.checkpoint
  def column(_, index_R):
    return None, (x_RxF * x_RxF[index_R]).sum(axis=-1)

  return jax.lax.scan(column, None, index_RxC.T)[1].T


def most_alike(x_RxF: jax.Array, k: int) -> SparseRows:
  """Each row's `nearest` and the products with them, which have a gradient.

  Args:
    x_RxF: rows of norm 1 or 0. Each is among its own neighbours: instead of the
      last where k equal rows come before it, as of items of one genre.
  """
  index_RxC = nearest(jax.lax.stop_gradient(x_RxF), k)
  own_Rx1 = jnp.arange(len(x_RxF))[:, None]
  absent_Rx1 = (index_RxC != own_Rx1).all(axis=1, keepdims=True)
  last_1xC = jnp.arange(index_RxC.shape[1])[None] == index_RxC.shape[1] - 1
  index_RxC = jnp.where(absent_Rx1 & last_1xC, own_Rx1, index_RxC)
  return SparseRows(index_RxC, inner_products(x_RxF, index_RxC))


def normalise_rows(matrix: SparseRows) -> SparseRows:
  """D^-1/2 S D^-1/2, D the row sums; where one is not positive, zeros."""
  sum_R = matrix.weight_RxC.sum(axis=1)
  scale_R = jnp.where(sum_R > 0, jnp.where(sum_R > 0, sum_R, 1) ** -0.5, 0)
  index_RxC, weight_RxC = matrix.index_RxC, matrix.weight_RxC
  return SparseRows(
    index_RxC, scale_R[:, None] * weight_RxC * scale_R[index_RxC]
  )


def weighted_sum(
  parts: list[tuple[jax.Array | float, SparseRows]],
) -> SparseRows:
  """Sum of scalars times matrices."""
  return SparseRows(
    jnp.concatenate([m.index_RxC for _, m in parts], axis=1),
    jnp.concatenate([w * m.weight_RxC for w, m in parts], axis=1),
  )


def multiply(matrix: SparseRows, h_RxD: jax.Array) -> jax.Array:
  """The matrix times h. [R, D]."""

  # Column by column and recomputed for the gradient: the rows of all
  # neighbours together are C times as large as h.
  @jax.checkpoint
  def add_column(sum_RxD, column):
    index_R, weight_R = column
    return sum_RxD + weight_R[:, None] * h_RxD[index_R], None

  columns = (matrix.index_RxC.T, matrix.weight_RxC.T)
  return jax.lax.scan(add_column, jnp.zeros_like(h_RxD), columns)[0]
