"""Hierarchical k-means (HK-Means of paper Table 4) instead of a quantizer."""

import numpy as np

from mmgrec_jax.nn.quantizer import kmeans


def hierarchical_kmeans(
  x_IxD: np.ndarray, levels: int, branching: int, seed: int = 0
) -> np.ndarray:
  """Splits all items into `branching` clusters, each of those again, ….

  A cluster with no more than `branching` distinct rows is split into single
  rows; identical rows stay together at every level.

  Returns:
    the cluster index of each item at each level, int32 [I, levels].
  """
  tokens_IxS = np.zeros((len(x_IxD), levels), np.int32)

  def split(members: np.ndarray, level: int) -> None:
    _, code = kmeans(x_IxD[members], branching, seed + level)
    # Number clusters without gaps, so that tokens stay small.
    _, code = np.unique(code, return_inverse=True)
    tokens_IxS[members, level] = code
    if level + 1 < levels:
      for cluster in range(code.max() + 1):
        split(members[code == cluster], level + 1)

  split(np.arange(len(x_IxD)), 0)
  return tokens_IxS
