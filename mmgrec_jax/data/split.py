"""Which interactions train, which validate and which test.

A split is stored with its data set; no run makes one of its own.
"""

from collections.abc import Sequence

import numpy as np

from mmgrec_jax.data.dataset import TEST, TRAIN, VALID

Ids = np.ndarray | Sequence[int]


def _sizes(n):
  """Training and test interactions among n; the rest validates."""
  train = (8 * n + 5) // 10
  return train, (n - train + 1) // 2


def _place_in_row(
  user_E: Ids, key_E: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Place in the user's row, ordered by key, and the row's length. [E] each."""
  user_E = np.asarray(user_E)
  order = np.lexsort((key_E, user_E))
  lengths = np.bincount(user_E)
  start = np.cumsum(lengths) - lengths
  place_E = np.empty(len(user_E), np.int64)
  place_E[order] = np.arange(len(user_E)) - start[user_E[order]]
  return place_E, lengths[user_E]


def split_interactions(user_E: Ids, seed: int) -> np.ndarray:
  """Random 80/10/10 split of each user's interactions, int8 [E].

  Of a user's n interactions round(.8 n) go to training, half of the rest,
  rounded up, to the test, the remainder to validation.
  """
  rng = np.random.default_rng(seed)
  place_E, n_E = _place_in_row(user_E, rng.random(len(user_E)))
  train_E, test_E = _sizes(n_E)
  split_E = np.full(len(user_E), VALID, np.int8)
  split_E[place_E < train_E + test_E] = TEST
  split_E[place_E < train_E] = TRAIN
  return split_E


def split_leave_last(user_E: Ids, time_E: np.ndarray) -> np.ndarray:
  """Each user's last is for the test, the one before for validation. int8 [E].

  Who has two has none for validation, who has one trains only. Among equal
  times, what is stored later counts as later.
  """
  place_E, n_E = _place_in_row(user_E, time_E)
  split_E = np.full(len(user_E), TRAIN, np.int8)
  split_E[(place_E == n_E - 1) & (n_E > 1)] = TEST
  split_E[(place_E == n_E - 2) & (n_E > 2)] = VALID
  return split_E


def split_by_time(time_E: np.ndarray) -> np.ndarray:
  """The oldest 80 % train, the newest 10 % test, over all users. int8 [E]."""
  train, test = _sizes(len(time_E))
  order = np.argsort(time_E, kind="stable")
  split_E = np.full(len(time_E), VALID, np.int8)
  split_E[order[:train]] = TRAIN
  split_E[order[len(order) - test :]] = TEST
  return split_E
