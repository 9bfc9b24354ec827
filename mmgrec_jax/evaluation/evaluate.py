"""Scores a ranker on a split."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mmgrec_jax.data.dataset import SPLITS, TRAIN, Dataset, Rows
from mmgrec_jax.errors import UserError
from mmgrec_jax.evaluation import metrics
from mmgrec_jax.evaluation.ranking import Ranker


def countable_users(data: Dataset, split: str) -> np.ndarray:
  """Users with items in the split and in training, int [n]."""
  relevant = data.rows(SPLITS[split]).lengths
  trained = data.rows(TRAIN).lengths
  return np.flatnonzero((relevant > 0) & (trained > 0))


def check_countable(data: Dataset, splits: Iterable[str]) -> None:
  """Raises UserError where a split would say nothing, as nobody counts."""
  for split in splits:
    if not len(countable_users(data, split)):
      raise UserError(
        f"{data.name}: no user has items in both the training and the {split}"
        " split, so nothing can be measured there; split it in another way or"
        " leave out users with few items (prepare's --split and --k_core)."
      )


def evaluate(
  ranker: Ranker,
  params: Any,
  data: Dataset,
  split: str,
  cutoffs: Sequence[int],
) -> dict[str, np.ndarray]:
  """Per-user metrics of a ranker on a split, over `countable_users`."""
  users = countable_users(data, split)
  items_NxK, _ = ranker(params, users)
  return score_lists(items_NxK, users, data, split, cutoffs)


def valid_recall(ranker: Ranker, params: Any, data: Dataset) -> float:
  """Mean Recall@10 on validation: what a run chooses by."""
  scores = evaluate(ranker, params, data, "valid", [10])
  return float(scores["recall@10"].mean())


def score_lists(
  items_NxK: np.ndarray,
  users: np.ndarray,
  data: Dataset,
  split: str,
  cutoffs: Sequence[int],
) -> dict[str, np.ndarray]:
  """Per-user metrics of given lists (best first, -1 = ended early)."""
  truth = data.rows(SPLITS[split])
  hit = metrics.hits(items_NxK, users, truth, data.n_items)
  return metrics.ranking_metrics(hit, truth.lengths[users], cutoffs)


def chance(
  data: Dataset,
  split: str,
  cutoffs: Sequence[int],
  hidden: Rows | None = None,
) -> dict[str, float]:
  """Expected metrics of a random order of each user's unseen items.

  Args:
    hidden: items that are no candidates either, by user.
  """
  users = countable_users(data, split)
  relevant = data.rows(SPLITS[split]).lengths[users]
  unseen = data.n_items - data.rows(TRAIN).lengths[users]
  if hidden is not None:
    unseen -= hidden.lengths[users]
  out = {}
  for k in cutoffs:
    discount = np.cumsum(1 / np.log2(np.arange(2, k + 2)))
    length = np.minimum(k, unseen)
    ideal = discount[np.minimum(relevant, k) - 1]
    dcg = relevant / unseen * discount[length - 1]
    out[f"recall@{k}"] = float((length / unseen).mean())
    out[f"ndcg@{k}"] = float((dcg / ideal).mean())
  return out
