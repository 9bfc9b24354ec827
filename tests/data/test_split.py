import numpy as np

from mmgrec_jax.data import split
from mmgrec_jax.data.dataset import TEST, TRAIN, VALID


def test_split_rounding_is_pinned():
  sizes = np.arange(1, 31)
  user = np.repeat(np.arange(30), sizes)
  found = split.split_interactions(user, seed=0)
  for n in sizes:
    counts = np.bincount(found[user == n - 1], minlength=3)
    train = int(np.floor(0.8 * n + 0.5))
    test = -((train - n) // 2)
    assert tuple(counts) == (train, n - train - test, test)
    assert n > 2 or counts[TEST] == 0


def test_split_depends_on_the_seed_only():
  user = np.repeat(np.arange(5), 20)
  same = split.split_interactions(user, 3)
  assert np.array_equal(same, split.split_interactions(user, 3))
  assert not np.array_equal(same, split.split_interactions(user, 4))


def test_a_split_is_the_one_that_earlier_versions_stored():
  found = split.split_interactions(np.array([0, 1, 1, 0, 1, 0, 1, 1]), seed=0)
  assert found.tolist() == [0, 0, 0, 0, 2, 2, 0, 0]
  of_list = split.split_interactions([0, 1, 1, 0, 1, 0, 1, 1], seed=0)
  assert of_list.tolist() == found.tolist()


def test_leave_last_tests_on_the_newest_of_each_user():
  user = np.array([0, 1, 0, 0, 2, 1, 0])
  time = np.array([5, 9, 7, 3, 1, 2, -4])
  found = split.split_leave_last(user, time)
  assert found.tolist() == [VALID, TEST, TEST, TRAIN, TRAIN, TRAIN, TRAIN]


def test_leave_last_among_equal_times_takes_what_is_stored_later():
  found = split.split_leave_last(np.zeros(4, int), np.array([1, 1, 1, 0]))
  assert found.tolist() == [TRAIN, VALID, TEST, TRAIN]


def test_by_time_nothing_in_training_is_newer_than_the_test(rng):
  time = rng.permutation(40)
  found = split.split_by_time(time)
  assert np.bincount(found).tolist() == [32, 4, 4]
  assert time[found == TRAIN].max() < time[found == VALID].min()
  assert time[found == VALID].max() < time[found == TEST].min()
