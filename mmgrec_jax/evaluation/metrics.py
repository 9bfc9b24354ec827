"""Recall@K and NDCG@K, per user (spec: full ranking, ideal DCG)."""

from collections.abc import Sequence

import numpy as np

from mmgrec_jax.data.dataset import Rows


def hits(
  items_NxK: np.ndarray, users_N: np.ndarray, truth: Rows, n_items: int
) -> np.ndarray:
  """Whether each recommended item is one of the user's, bool [N, K].

  -1 marks a list that ended early and never hits.
  """
  owner = np.repeat(np.arange(len(truth.lengths)), truth.lengths)
  known = owner * np.int64(n_items) + truth.items
  asked = users_N[:, None] * np.int64(n_items) + items_NxK
  return np.isin(asked, known) & (items_NxK >= 0)


def ranking_metrics(
  hit_NxK: np.ndarray, n_relevant_N: np.ndarray, cutoffs: Sequence[int]
) -> dict[str, np.ndarray]:
  """Per-user Recall@K = hits / |relevant| and NDCG@K, float64 [N].

  NDCG divides by the DCG of min(K, |relevant|) hits at the top, log2 discount.
  """
  out = {}
  for k in cutoffs:
    hit = hit_NxK[:, :k].astype(np.float64)
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discount)[np.minimum(n_relevant_N, k) - 1]
    out[f"recall@{k}"] = hit.sum(axis=1) / n_relevant_N
    out[f"ndcg@{k}"] = hit @ discount[: hit.shape[1]] / ideal
  return out
