import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.decoding import trie as tries
from mmgrec_jax.recid.assign import assign_rec_ids


def random_ids(rng, items, size):
  return assign_rec_ids(
    rng.integers(0, size, (items, 3)), size, rng.integers(0, 5, items)
  )


def prefixes(tokens):
  """A Python trie: prefix -> the tokens that may follow."""
  follow = {}
  for row in tokens.tolist():
    for m in range(len(row)):
      follow.setdefault(tuple(row[:m]), set()).add(row[m])
  return follow


@pytest.mark.parametrize(
  ("items", "size"), [(1, 1), (1, 8), (30, 2), (30, 16), (300, 7), (40, 1)]
)
def test_trie_equals_a_dict_of_prefixes(rng, items, size):
  ids = random_ids(rng, items, size)
  trie = tries.build_trie(ids)
  follow = prefixes(ids.tokens_IxM)
  node_of = {(): 0}
  for prefix in sorted(follow, key=len):
    node = node_of[prefix]
    if len(prefix) < 3:
      valid = np.asarray(tries.children_mask(trie, jnp.array(node)))
      for token in np.flatnonzero(valid):
        child = int(trie.next_node_PxL[node, token])
        node_of[(*prefix, int(token))] = child
    else:
      width = ids.vocabulary[-1]
      valid = tries.last_level_mask(trie, jnp.array(node), width)
    assert set(np.flatnonzero(valid)) == follow[prefix]
  assert len(set(node_of.values())) == len(node_of) == len(trie.count_Q)


def test_ranges_hold_the_items_below_each_node(rng):
  ids = random_ids(rng, 60, 3)
  trie = tries.build_trie(ids)
  order = np.asarray(trie.item_I)
  for item in range(60):
    for m in range(4):
      node = trie.path_IxM[item, m]
      first, count = int(trie.first_Q[node]), int(trie.count_Q[node])
      same = (ids.tokens_IxM[:, :m] == ids.tokens_IxM[item, :m]).all(axis=1)
      assert set(order[first : first + count]) == set(np.flatnonzero(same))
  rank = ids.tokens_IxM[:, -1]
  last = np.asarray(trie.path_IxM)[:, -1]
  assert np.array_equal(order[np.asarray(trie.first_Q)[last] + rank], range(60))
  assert np.array_equal(np.asarray(trie.position_I)[order], np.arange(60))


def test_a_child_is_dead_when_every_item_below_it_is_seen(rng):
  ids = random_ids(rng, 50, 3)
  trie = tries.build_trie(ids)
  for size in (0, 1, 10, 40, 50):
    seen = rng.choice(50, size, replace=False)
    history = np.full((1, 55), -1)
    history[0, :size] = seen
    out = tries.exhausted_children(trie, jnp.asarray(history))
    for h in range(55):
      for m in range(4):
        if h >= size:
          expected = False
        else:
          prefix = ids.tokens_IxM[history[0, h], : m + 1]
          below = (ids.tokens_IxM[:, : m + 1] == prefix).all(axis=1)
          expected = set(np.flatnonzero(below)) <= set(seen)
          assert out.token[0, h, m] == prefix[-1]
          assert out.parent[0, h, m] == trie.path_IxM[history[0, h], m]
        assert bool(out.dead[0, h, m]) == expected
