"""Is one system better than another, or was it luck? All tests two-sided."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

# difference of the means, t, df, p; None where the test is not defined.
Outcome = dict[str, float] | None


def one_sample(values_S: Sequence[float], mean: float) -> Outcome:
  """A system's seeds against a number that is taken as exact.

  The paper's test, with the mean of the other system: luck in that mean is not
  counted.
  """
  if len(values_S) < 2 or np.ptp(values_S) == 0:
    return None
  return _outcome(np.mean(values_S) - mean, stats.ttest_1samp(values_S, mean))


def welch(values_S: Sequence[float], others_T: Sequence[float]) -> Outcome:
  """The seeds of both systems, whose spreads may differ (Welch 1947)."""
  if any(len(v) < 2 or np.ptp(v) == 0 for v in (values_S, others_T)):
    return None
  return _outcome(
    np.mean(values_S) - np.mean(others_T),
    stats.ttest_ind(values_S, others_T, equal_var=False),
  )


def paired(values_N: np.ndarray, others_N: np.ndarray) -> Outcome:
  """Both systems on the same users: would it hold for other users?"""
  difference_N = values_N - others_N
  if len(difference_N) < 2 or np.ptp(difference_N) == 0:
    return None
  return _outcome(difference_N.mean(), stats.ttest_rel(values_N, others_N))


def _outcome(difference: Any, of: Any) -> Outcome:
  return {
    "difference": float(difference),
    "t": float(of.statistic),
    "df": float(of.df),
    "p": float(of.pvalue),
  }
