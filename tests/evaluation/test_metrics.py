import json
from pathlib import Path

import numpy as np
import pytest

from mmgrec_jax.data.dataset import Rows
from mmgrec_jax.evaluation import metrics

# Made by three independent libraries, which agree to 3e-16.
ORACLE = Path(__file__).parents[1] / "fixtures" / "metrics_oracle.json"


def score(ranked, relevant, k):
  truth = Rows(np.array([0, len(relevant)]), np.sort(np.array(relevant)))
  items = np.array([ranked])
  hit = metrics.hits(items, np.array([0]), truth, n_items=10**6)
  out = metrics.ranking_metrics(hit, truth.lengths, [k])
  return {name: float(v[0]) for name, v in out.items()}


@pytest.mark.parametrize("number", range(24))
def test_oracle_case(number):
  case = json.loads(ORACLE.read_text())["cases"][number]
  for k, expected in case["metrics"].items():
    got = score(case["ranked"], case["relevant"], int(k))
    assert got[f"recall@{k}"] == pytest.approx(expected["recall"], abs=1e-12)
    assert got[f"ndcg@{k}"] == pytest.approx(expected["ndcg"], abs=1e-12)


def test_by_hand():
  got = score([7, 3, 9, 1], relevant=[3, 1, 5], k=3)
  assert got["recall@3"] == pytest.approx(1 / 3)
  dcg = 1 / np.log2(3)
  ideal = 1 + 1 / np.log2(3) + 0.5
  assert got["ndcg@3"] == pytest.approx(dcg / ideal)
  perfect = score([3, 1, 5, 2], relevant=[3, 1, 5], k=4)
  assert perfect == {"recall@4": 1, "ndcg@4": 1}


def test_a_list_that_ended_early_never_hits():
  got = score([-1, -1, 4, -1], relevant=[4, 999_999], k=4)
  assert got["recall@4"] == 0.5


def test_hits_do_not_cross_users():
  truth = Rows(np.array([0, 1, 2]), np.array([5, 6]))
  items = np.array([[5, 6], [5, 6]])
  hit = metrics.hits(items, np.array([1, 0]), truth, n_items=7)
  assert hit.tolist() == [[False, True], [True, False]]
