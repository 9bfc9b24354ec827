"""Vectors of items that nobody has touched yet, from their features alone."""

from typing import NamedTuple

import numpy as np

# Strengths that are tried, times the features' mean variance over all items.
STRENGTHS = 10 ** np.arange(-3, 3.5, 0.5)
# Items that the map is learned from, at most.
MOST = 2**16


class LinearMap(NamedTuple):
  """x -> h, about.

  W_FxD, b_D: h = x W + b.
  r2: share of h's variance that the map explains of an item which it was not
    learned from.
  """

  W_FxD: np.ndarray
  b_D: np.ndarray
  r2: float

  def __call__(self, x_NxF: np.ndarray) -> np.ndarray:
    """float32 [N, D]."""
    return (x_NxF @ self.W_FxD + self.b_D[None]).astype(np.float32)


def learn_map(x_IxF: np.ndarray, h_IxD: np.ndarray, seed: int) -> LinearMap:
  """Ridge regression, its strength the best of STRENGTHS for items left out.

  Leaving out each item in turn has a closed form: its error is the error of
  the whole fit over 1 - its leverage.

  Args:
    x_IxF: normalised features.  h_IxD: trained vectors of the same items.
    seed: of the MOST items that are drawn where there are more.
  """
  if len(x_IxF) > MOST:
    drawn = np.random.default_rng(seed).choice(len(x_IxF), MOST, replace=False)
    x_IxF, h_IxD = x_IxF[drawn], h_IxD[drawn]
  x_IxF, h_IxD = x_IxF.astype(np.float64), h_IxD.astype(np.float64)
  x_F, h_D = x_IxF.mean(axis=0), h_IxD.mean(axis=0)
  x_IxF, h_IxD = x_IxF - x_F[None], h_IxD - h_D[None]
  size_F, axes_FxF = np.linalg.eigh(x_IxF.T @ x_IxF)
  size_F = np.maximum(size_F, 0)
  x_IxF = x_IxF @ axes_FxF
  product_FxD = x_IxF.T @ h_IxD

  def fit(strength):
    shrunk_F = 1 / (size_F + strength * size_F.mean() + 1e-12)
    return shrunk_F, shrunk_F[:, None] * product_FxD

  def error_left_out(strength):
    shrunk_F, W_FxD = fit(strength)
    # The mean is learned as well: it has a leverage of 1 / I.
    leverage_I = (x_IxF**2) @ shrunk_F + 1 / len(x_IxF)
    kept_I = np.maximum(1 - leverage_I, 1e-9)
    error_IxD = (h_IxD - x_IxF @ W_FxD) / kept_I[:, None]
    return (error_IxD**2).sum()

  errors = [error_left_out(strength) for strength in STRENGTHS]
  best = int(np.argmin(errors))
  W_FxD = axes_FxF @ fit(STRENGTHS[best])[1]
  spread = max((h_IxD**2).sum(), 1e-12)
  return LinearMap(W_FxD, h_D - x_F @ W_FxD, 1 - errors[best] / spread)
