"""Systems that are a matrix of items by items, made without gradients.

The score of an item adds up what each training item of the user says for it:
x_u W, where x_u is the user's row of zeros and ones.

`itemknn`: the cosine of two items' columns, of each item only with its nearest
`neighbours` (Sarwar et al. 2001), shrunk where few users have them:
c_ij / (sqrt(n_i n_j) + shrink).
`ease`: the ridge regression of each item on all the others, in closed form
(Steck 2019): P = (X^T X + l2 I)^-1, W = I - P diag(1 / diag P).
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from scipy import sparse

from mmgrec_jax.data.dataset import Rows
from mmgrec_jax.errors import UserError
from mmgrec_jax.nn.nearest import SparseRows, multiply

CHUNK = 256  # items whose counts with all others are held at a time

Matrix = Mapping[str, Any]  # arrays by name: of NumPy as made, then of JAX


def pair_counts(
  rows: Rows, n_items: int
) -> Iterator[tuple[slice, sparse.csr_array]]:
  """X^T X, the users that have both items: some rows [S, I] at a time."""
  ones_E = np.ones(len(rows.items))
  x_UxI = sparse.csr_array(
    (ones_E, rows.items, rows.offset), shape=(len(rows.lengths), n_items)
  )
  x_IxU = x_UxI.T.tocsr()
  for start in range(0, n_items, CHUNK):
    chunk = slice(start, min(start + CHUNK, n_items))
    yield chunk, x_IxU[chunk] @ x_UxI


def item_knn(rows: Rows, n_items: int, settings) -> Matrix:
  """Each item's nearest others.

  Returns:
    index_IxC: int32, their numbers, the nearest first, the lower number among
      equals.
    weight_IxC: float32, their similarities; 0 where there are fewer.
  """
  n_near = min(settings.neighbours, n_items - 1)
  index_IxC = np.zeros((n_items, n_near), np.int32)
  weight_IxC = np.zeros((n_items, n_near), np.float32)
  norm_I = np.sqrt(np.bincount(rows.items, minlength=n_items))
  for chunk, count_SxI in pair_counts(rows, n_items):
    pairs = count_SxI.tocoo()
    i, j = pairs.row + chunk.start, pairs.col
    weight = pairs.data / (norm_I[i] * norm_I[j] + settings.shrink)
    order = np.lexsort((j, -weight, i))
    order = order[i[order] != j[order]]
    i, j, weight = i[order], j[order], weight[order]
    place = np.arange(len(i)) - np.searchsorted(i, i)
    near = place < n_near
    index_IxC[i[near], place[near]] = j[near]
    weight_IxC[i[near], place[near]] = weight[near]
  return {"index_IxC": index_IxC, "weight_IxC": weight_IxC}


def score_by_neighbours(matrix: Matrix, x_BxI: jax.Array) -> jax.Array:
  """x_u W where W has C entries in a column. [B, I]."""
  nearest = SparseRows(matrix["index_IxC"], matrix["weight_IxC"])
  return multiply(nearest, x_BxI.T).T


def ease_gib(n_items: int) -> float:
  """Memory that `ease` takes, in GiB."""
  # X^T X, float64, which becomes its inverse, and W, float32.
  return 12 * n_items**2 / 2**30


def ease(rows: Rows, n_items: int, settings) -> Matrix:
  """Of each pair of items, what having the first says for the second.

  Returns:
    weight_IxI: float32, zero on the diagonal.

  Raises:
    UserError: it would take more memory than `max_gib`.
  """
  need = ease_gib(n_items)
  if need > settings.max_gib:
    raise UserError(
      f"ease needs {need:,.1f} GiB of memory for {n_items:,} x {n_items:,}"
      " items; take itemknn, or let it with"
      f" --config.model.max_gib={math.ceil(need)}."
    )
  gram_IxI = np.empty((n_items, n_items))
  for chunk, count_SxI in pair_counts(rows, n_items):
    gram_IxI[chunk] = count_SxI.toarray()
  gram_IxI[np.diag_indices(n_items)] += settings.l2
  # Symmetric: its transpose is what LAPACK can work on in place.
  weight_IxI = scipy.linalg.inv(gram_IxI.T, overwrite_a=True)
  weight_IxI /= -np.diag(weight_IxI)
  np.fill_diagonal(weight_IxI, 0)
  return {"weight_IxI": weight_IxI.astype(np.float32)}


def score_by_all(matrix: Matrix, x_BxI: jax.Array) -> jax.Array:
  """x_u W where W has all entries. [B, I]."""
  return jnp.matmul(x_BxI, matrix["weight_IxI"], precision="highest")


def scores_of(
  weight_IxI: jax.Array, history_BxH: jax.Array, items_BxK: jax.Array
) -> jax.Array:
  """x_u W of some items of each user, [B, K]; of -1, any number.

  Args:
    history_BxH: items, -1 = padding.
  """

  def of_user(history_H, items_K):
    weight_HxK = weight_IxI[history_H[:, None], items_K[None]]
    return jnp.where(history_H[:, None] >= 0, weight_HxK, 0.0).sum(axis=0)

  return jax.vmap(of_user)(history_BxH, items_BxK)


def zeros_and_ones(history_BxH: jax.Array, n_items: int) -> jax.Array:
  """Users' rows of X, from their items (-1 = padding). [B, I]."""
  row_Bx1 = jnp.arange(history_BxH.shape[0])[:, None]
  own_BxH = jnp.where(history_BxH >= 0, history_BxH, n_items)
  x_BxI = jnp.zeros((history_BxH.shape[0], n_items))
  return x_BxI.at[row_Bx1, own_BxH].set(1, mode="drop")


# How each is made, and how it scores.
SYSTEMS = {
  "itemknn": (item_knn, score_by_neighbours),
  "ease": (ease, score_by_all),
}
