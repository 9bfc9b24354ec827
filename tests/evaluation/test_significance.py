"""Against the textbook's formulas, and where nothing can be said."""

import numpy as np
import pytest
from scipy.special import stdtr

from mmgrec_jax.evaluation import significance

A = [0.264, 0.271, 0.266, 0.269, 0.262]
B = [0.259, 0.266, 0.261]


def two_sided(t, df):
  return 2 * stdtr(df, -abs(t))


def test_one_sample_is_the_mean_over_its_standard_error():
  out = significance.one_sample(A, 0.262)
  t = (np.mean(A) - 0.262) / (np.std(A, ddof=1) / np.sqrt(5))
  assert out == pytest.approx(
    {"difference": np.mean(A) - 0.262, "t": t, "df": 4, "p": two_sided(t, 4)}
  )


def test_welch_counts_the_spread_of_both():
  out = significance.welch(A, B)
  a, b = np.var(A, ddof=1) / 5, np.var(B, ddof=1) / 3
  t = (np.mean(A) - np.mean(B)) / np.sqrt(a + b)
  df = (a + b) ** 2 / (a**2 / 4 + b**2 / 2)
  assert out == pytest.approx(
    {"difference": np.mean(A) - np.mean(B), "t": t, "df": df,
     "p": two_sided(t, df)}
  )  # fmt: skip
  # Its other side taken as exact, the same difference looks surer.
  assert out["p"] > significance.one_sample(A, np.mean(B))["p"]


def test_paired_sees_a_small_gain_that_all_users_have(rng):
  base = rng.random(300)  # users differ far more than systems do
  better = base + 0.01 + 0.02 * rng.standard_normal(300)
  out = significance.paired(better, base)
  of_users = better - base
  t = of_users.mean() / (of_users.std(ddof=1) / np.sqrt(300))
  assert out == pytest.approx(
    {"difference": of_users.mean(), "t": t, "df": 299,
     "p": two_sided(t, 299)}
  )  # fmt: skip
  assert out["p"] < 1e-6
  shuffled = significance.paired(rng.permutation(better), base)
  assert shuffled["p"] > 0.05


def test_the_sign_says_which_is_better():
  up, down = significance.welch(A, B), significance.welch(B, A)
  assert up["t"] == -down["t"] > 0
  assert up["difference"] == -down["difference"] > 0
  assert up["p"] == down["p"]


def test_one_run_or_no_spread_at_all_says_nothing():
  assert significance.one_sample([0.3], 0.2) is None
  assert significance.one_sample([0.3, 0.3], 0.2) is None
  assert significance.welch(A, [0.2]) is None
  assert significance.welch(A, [0.2, 0.2]) is None
  assert significance.paired(np.ones(5), np.zeros(5)) is None
