"""How alike an item is to what a user has, by features alone.

Of one modality there are two scores. The share of an item's nearest others that
the user has, each counted by its cosine: item-kNN (Sarwar et al. 2001) on
features in the place of users. And the mean of the item's cosines with all that
the user has: how well it fits a profile of their content (Pazzani and Billsus
2007), which needs no item near it, so it says more of users with few items.

Both see what vectors of a few dimensions smooth over, and items that nobody has
yet like any others.
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.decomposition import PCA

from mmgrec_jax.data.features import present_rows
from mmgrec_jax.models import collaborative as cf
from mmgrec_jax.models.item_item import zeros_and_ones
from mmgrec_jax.nn.history import mean_of_history
from mmgrec_jax.nn.nearest import SparseRows, most_alike

# Of `nearest_by_content`, or [I, C] of `principal_components`.
Content = SparseRows | jax.Array


def nearest_by_content(x_IxF: jax.Array, neighbours: int) -> SparseRows:
  """Each item's most alike others, weights that add up to 1.

  Returns:
    float32 weights, 0 where fewer have a positive cosine; NaN, all of them,
    where none has.
  """
  alike = most_alike(cf.normalise(x_IxF), neighbours + 1)
  other_IxC = alike.index_RxC != jnp.arange(len(x_IxF))[:, None]
  weight_IxC = jnp.where(other_IxC, jnp.maximum(alike.weight_RxC, 0.0), 0.0)
  return SparseRows(
    alike.index_RxC, weight_IxC / weight_IxC.sum(axis=1, keepdims=True)
  )


def principal_components(
  x_IxF: np.ndarray, width: int, known_I: np.ndarray | None = None
) -> np.ndarray:
  """Rows of length 1, whose products are cosines about the mean item.

  Args:
    x_IxF: one modality's features; a row of zeros: missing.
    known_I: bool, the items whose mean and components are taken; None: all.

  Returns:
    float32 [I, C], C = `width` or, if that is less, what there is; zeros for
    items without features.
  """
  present_I = present_rows(x_IxF)
  fitted_I = present_I if known_I is None else present_I & known_I
  fitted_NxF = x_IxF[fitted_I]
  N, F = fitted_NxF.shape
  width = max(min(width, N - 1, F), 0)
  y_IxC = np.zeros((len(x_IxF), width), np.float32)
  if width:
    # Where all rows are equal, none of the variance is explained: 0 / 0.
    with np.errstate(invalid="ignore"):
      pca = PCA(width, svd_solver="covariance_eigh").fit(fitted_NxF)
    y_IxC[present_I] = pca.transform(x_IxF[present_I])
  norm_Ix1 = np.linalg.norm(y_IxC, axis=1, keepdims=True)
  # Less is as good as the mean item: its direction would be rounding alone.
  least = 1e-5 * np.linalg.norm(x_IxF, axis=1).max(initial=0)
  return y_IxC / np.where(norm_Ix1 > least, norm_Ix1, np.inf)


def content_score(
  content: Content, history_BxH: jax.Array, items_BxK: jax.Array
) -> jax.Array:
  """The score of some items of each user. [B, K].

  Args:
    history_BxH: items, -1 = padding.
    items_BxK: of -1, any number comes back.

  Returns:
    a share from 0 to 1 of nearest others, a mean cosine of components; NaN for
    items of which it has nothing to say.
  """
  if isinstance(content, SparseRows):
    return _share_of_nearest(content, history_BxH, items_BxK)
  return _mean_cosine(content, history_BxH, items_BxK)


def _share_of_nearest(rows, history_BxH, items_BxK):
  x_BxI = zeros_and_ones(history_BxH, len(rows.index_RxC))

  def of_user(x_I, items_K):
    return (rows.weight_RxC[items_K] * x_I[rows.index_RxC[items_K]]).sum(axis=1)

  return jax.vmap(of_user)(x_BxI, jnp.maximum(items_BxK, 0))


def _mean_cosine(y_IxC, history_BxH, items_BxK):
  y_BxKxC = y_IxC[jnp.maximum(items_BxK, 0)]
  profile_BxC = mean_of_history(y_IxC, history_BxH)
  score_BxK = jnp.einsum("bc,bkc->bk", profile_BxC, y_BxKxC)
  return jnp.where((y_BxKxC != 0).any(axis=-1), score_BxK, jnp.nan)
