"""Whom and what the recommended lists serve, for every system of a run."""

from typing import Any

import numpy as np

from experiments.inspect.finished import Finished
from mmgrec_jax.data.dataset import SPLITS, TRAIN, Rows
from mmgrec_jax.evaluation import metrics

K = 10
BUCKETS = 5


def of_systems(run: Finished) -> dict[str, Any]:
  """Recall@10 by bucket, coverage and Gini; and what the buckets are."""
  users, truth = run.users, run.data.rows(SPLITS[run.split])
  popularity = run.data.popularity()
  of_item, of_popularity = buckets(popularity, popularity)
  history = run.data.rows(TRAIN).lengths[users]
  of_user, of_history = buckets(history, np.ones(len(users)))
  systems = {}
  for name, items in run.lists.items():
    items_NxK = items[:, :K]
    hit_NxK = metrics.hits(items_NxK, users, truth, run.data.n_items)
    scores = metrics.ranking_metrics(hit_NxK, truth.lengths[users], [K])
    recall = scores[f"recall@{K}"]
    shown = np.bincount(items_NxK[items_NxK >= 0], minlength=run.data.n_items)
    systems[name] = {
      "recall@10": float(recall.mean()),
      "coverage": float((shown > 0).mean()),
      "gini": gini(shown),
      "recall_by_popularity": by_item_bucket(
        items_NxK[hit_NxK], items_of(truth, users), of_item
      ),
      "shown_by_popularity": shares(shown, of_item),
      "recall_by_history": means(recall, of_user),
    }
  truth_I = np.bincount(items_of(truth, users), minlength=len(of_item))
  return {
    "popularity_buckets": [
      {**bounds, "items": int(items), "truth": truth}
      for bounds, items, truth in zip(
        of_popularity,
        np.bincount(of_item),
        shares(truth_I, of_item),
        strict=True,
      )
    ],
    "history_buckets": [
      {**bounds, "users": int(n)}
      for bounds, n in zip(of_history, np.bincount(of_user), strict=True)
    ],
    "training_gini": gini(popularity),
    "systems": systems,
  }


def buckets(
  values_N: np.ndarray, weights_N: np.ndarray, n: int = BUCKETS
) -> tuple[np.ndarray, list[dict[str, int]]]:
  """Neighbouring values in at most n groups of about the same total weight.

  Returns:
    the group of each value, ascending, int [N], and each group's bounds, both
    included. Equal values are never parted.
  """
  distinct_V, of_value = np.unique(values_N, return_inverse=True)
  weight_V = np.bincount(of_value, weights=weights_N)
  middle_V = np.cumsum(weight_V) - weight_V / 2
  group_V = np.floor(n * middle_V / max(weight_V.sum(), 1)).astype(int)
  _, group_V = np.unique(group_V, return_inverse=True)
  members = [distinct_V[group_V == g] for g in range(group_V.max() + 1)]
  bounds = [{"low": int(m[0]), "high": int(m[-1])} for m in members]
  return group_V[of_value], bounds


def gini(count_I: np.ndarray) -> float:
  """0: all items equally often; near 1: all of it on one item."""
  ascending, n = np.sort(count_I).astype(np.float64), len(count_I)
  weighted = (np.arange(1, n + 1) * ascending).sum()
  return float(2 * weighted / (n * max(ascending.sum(), 1)) - (n + 1) / n)


def items_of(rows: Rows, users: np.ndarray) -> np.ndarray:
  """The users' items, one after the other."""
  wanted = np.zeros(len(rows.lengths), bool)
  wanted[users] = True
  return rows.items[np.repeat(wanted, rows.lengths)]


def by_item_bucket(
  found: np.ndarray, all_: np.ndarray, of_item: np.ndarray
) -> list[float | None]:
  """Share of each bucket's interactions that was found; None: it has none."""
  n = of_item.max() + 1
  found_G = np.bincount(of_item[found], minlength=n)
  all_G = np.bincount(of_item[all_], minlength=n)
  return [
    float(f / a) if a else None for f, a in zip(found_G, all_G, strict=True)
  ]


def shares(count_I: np.ndarray, of_item: np.ndarray) -> list[float]:
  """Of the total, by bucket."""
  total_G = np.bincount(of_item, weights=count_I)
  return (total_G / max(total_G.sum(), 1)).tolist()


def means(value_N: np.ndarray, group_N: np.ndarray) -> list[float]:
  """Of each group."""
  total_G = np.bincount(group_N, weights=value_N)
  return (total_G / np.bincount(group_N)).tolist()
