import jax
import jax.numpy as jnp
import numpy as np

from mmgrec_jax.data import sampling
from mmgrec_jax.data.dataset import Rows


def rows_of(*items) -> Rows:
  lengths = [len(row) for row in items]
  return Rows(
    np.cumsum([0, *lengths]).astype("i4"),
    np.array([i for row in items for i in sorted(row)], "i4"),
  )


def test_negatives_are_unseen_and_uniform():
  rows = rows_of([0, 1, 5, 6], [3], [], [0, 1, 2, 3, 4, 5, 6])
  data = sampling.on_device(rows, n_items=8)
  user = jnp.repeat(jnp.arange(4), 4000)
  drawn = np.asarray(sampling.sample_unseen(jax.random.key(0), data, user))
  for u, seen in enumerate([{0, 1, 5, 6}, {3}, set(), set(range(7))]):
    count = np.bincount(drawn[4000 * u : 4000 * (u + 1)], minlength=8)
    unseen = sorted(set(range(8)) - seen)
    assert count.sum() == count[unseen].sum()
    expected = 4000 / len(unseen)
    assert np.abs(count[unseen] - expected).max() < 6 * np.sqrt(expected)


def test_negatives_stay_in_range_when_everything_is_seen():
  data = sampling.on_device(rows_of([0, 1, 2]), n_items=3)
  drawn = sampling.sample_unseen(jax.random.key(0), data, jnp.zeros(9, int))
  assert ((drawn >= 0) & (drawn < 3)).all()


def test_an_epoch_holds_every_sample_once():
  order = sampling.epoch_order(jax.random.key(1), n=10, steps=3, batch=4)
  flat = np.asarray(order).ravel()
  assert sorted(flat[flat >= 0]) == list(range(10))
  assert (flat == -1).sum() == 2


def test_windows_make_every_interaction_a_target_once_and_never_an_input(rng):
  histories = [
    rng.choice(50, size=n, replace=False) for n in (1, 2, 3, 7, 20, 0, 11)
  ]
  rows = rows_of(*histories)
  data = sampling.on_device(rows, n_items=50)
  N, T = 6, 4
  windows = sampling.cut_windows(rows, T)
  samples = jnp.arange(len(windows.user_S))
  shuffled = sampling.shuffle_rows(jax.random.key(0), data)
  user, history, targets = map(
    np.asarray, sampling.draw_windows(shuffled, data, windows, samples, N, T)
  )
  seen_as_target = [[] for _ in histories]
  for u, inputs, outputs in zip(user, history, targets, strict=True):
    inputs, outputs = inputs[inputs >= 0], outputs[outputs >= 0]
    everything = np.concatenate([inputs, outputs])
    assert len(set(everything)) == len(everything)
    assert set(everything) <= set(histories[u])
    assert len(inputs) == min(N, len(histories[u]) - len(outputs))
    assert len(outputs) <= max(len(histories[u]) // 2, 1)
    seen_as_target[u] += outputs.tolist()
  for u, targets_of_user in enumerate(seen_as_target):
    assert sorted(targets_of_user) == sorted(histories[u])


def test_in_time_a_history_is_what_came_before_its_targets():
  row = [7, 2, 9, 4, 0, 5, 3]  # the newest first
  rows = Rows(np.array([0, 7, 9], "i4"), np.array([*row, 8, 1], "i4"))
  data = sampling.on_device(rows, n_items=10)
  windows = sampling.cut_windows(rows, 2)
  user, history, targets = sampling.draw_windows(
    jnp.arange(9), data, windows, jnp.arange(6), 3, 2, around=False
  )
  assert user.tolist() == [0, 0, 0, 0, 1, 1]
  expected = [[7, 2], [9, 4], [0, 5], [3, -1], [8, -1], [1, -1]]
  assert targets.tolist() == expected
  none = [-1, -1, -1]
  assert history.tolist() == [
    [9, 4, 0], [0, 5, 3], [3, -1, -1], none, [1, -1, -1], none,
  ]  # fmt: skip


def test_a_whole_history_has_its_targets_too(rng):
  histories = [rng.choice(50, size=n, replace=False) for n in (1, 5, 9)]
  rows = rows_of(*histories)
  data = sampling.on_device(rows, n_items=50)
  windows = sampling.cut_windows(rows, 2)
  samples = jnp.arange(len(windows.user_S))
  draw = lambda order, around: sampling.draw_windows(
    order, data, windows, samples, 6, 2, around, whole=True
  )
  shuffled = sampling.shuffle_rows(jax.random.key(0), data)
  user, history, targets = map(np.asarray, draw(shuffled, True))
  for u, inputs, outputs in zip(user, history, targets, strict=True):
    inputs, outputs = inputs[inputs >= 0], outputs[outputs >= 0]
    assert len(set(inputs)) == len(inputs) == min(6, len(histories[u]))
    assert set(outputs) <= set(inputs) <= set(histories[u])
  # In time, what is read at serving: the newest, whatever the targets are.
  user, history, _ = map(np.asarray, draw(jnp.arange(15), False))
  for u, inputs in zip(user, history, strict=True):
    newest = rows.items[rows.offset[u] : rows.offset[u + 1]][:6]
    assert inputs[inputs >= 0].tolist() == newest.tolist()


def test_padding_samples_draw_nothing():
  rows = rows_of([0, 1, 2, 3])
  data = sampling.on_device(rows, n_items=4)
  _, history, targets = sampling.draw_windows(
    data.item_E, data, sampling.cut_windows(rows, 2), jnp.array([-1]), 3, 2
  )
  assert (history == -1).all() and (targets == -1).all()


def test_rows_are_shuffled_within_users_only():
  rows = rows_of(range(20), range(20, 40))
  data = sampling.on_device(rows, n_items=40)
  a = np.asarray(sampling.shuffle_rows(jax.random.key(0), data))
  b = np.asarray(sampling.shuffle_rows(jax.random.key(1), data))
  assert sorted(a[:20]) == list(range(20))  # places
  assert not np.array_equal(a, b)


def test_histories_are_fair_subsets_without_what_is_left_out():
  rows = rows_of([0, 1, 5, 6], [3], [2, 4, 7], [])
  data = sampling.on_device(rows, n_items=8)
  edge = jnp.arange(8)  # each interaction is left out once
  user = data.user_E

  @jax.jit
  @jax.vmap
  def draw(key):
    return sampling.draw_histories(key, data, user, 2, edge)

  keys = jax.random.split(jax.random.key(0), 3000)
  drawn_KxEx2 = np.asarray(draw(keys))
  own = {0: {0, 1, 5, 6}, 1: {3}, 2: {2, 4, 7}}
  for e, u in enumerate(np.asarray(user)):
    others = sorted(own[u] - {int(data.item_E[e])})
    a, b = drawn_KxEx2[:, e].T
    if not others:
      assert (a == -1).all() and (b == -1).all()
      continue
    assert (a != b).all()
    count = np.bincount(np.append(a, b), minlength=8)
    expected = 6000 / len(others)
    assert count[others].sum() == 6000
    assert np.abs(count[others] - expected).max() < 6 * np.sqrt(expected)


def test_whole_rows_fit_into_long_histories_and_no_one_has_none():
  rows = rows_of([0, 1, 5, 6], [3], [2, 4, 7], [])
  data = sampling.on_device(rows, n_items=8)
  drawn = sampling.draw_histories(jax.random.key(0), data, jnp.arange(4), 5)
  for row, own in zip(
    np.asarray(drawn), ([0, 1, 5, 6], [3], [2, 4, 7], []), strict=True
  ):
    assert sorted(row[: len(own)]) == own and (row[len(own) :] == -1).all()


def test_all_items_of_a_user_are_theirs_in_order_with_padding_last():
  data = sampling.on_device(rows_of([4, 2], [], [0, 3, 5], [1]), n_items=6)
  found = sampling.items_of(data, jnp.array([3, 0, 2, 1]))
  wanted = [[1, -1, -1], [2, 4, -1], [0, 3, 5], [-1, -1, -1]]
  np.testing.assert_array_equal(found, wanted)
