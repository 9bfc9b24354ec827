import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.decoding.trie import build_trie, exhausted_children
from mmgrec_jax.recid.assign import assign_rec_ids

FORMS = ("packed", "dense")


def random_ids(rng, items, size, levels=3):
  return assign_rec_ids(
    rng.integers(0, size, (items, levels)), size, rng.integers(0, 5, items)
  )


def ids_of(semantic, size):
  semantic = np.asarray(semantic)
  return assign_rec_ids(semantic, size, np.zeros(len(semantic), int))


# A full level, for vocabularies that fill their last word and that do not.
EVERY_CHILD = [[a, b, 0] for a in (0, 3) for b in range(33)]
CATALOGUES = {
  "one item": lambda rng: random_ids(rng, 1, 1),
  "one token a level": lambda rng: random_ids(rng, 50, 1),
  "one node a level": lambda rng: ids_of([[2, 1, 3]] * 9, 5),
  "a full level": lambda rng: ids_of(EVERY_CHILD, 33),
  "a full word": lambda rng: ids_of(EVERY_CHILD[:32], 32),
  "large groups": lambda rng: ids_of([[1, 2]] * 300 + [[1, 4]] * 3, 5),
  "one semantic token": lambda rng: random_ids(rng, 80, 4, levels=1),
  "five semantic tokens": lambda rng: random_ids(rng, 80, 3, levels=5),
  **{
    f"random {n}": lambda rng, n=n: random_ids(rng, 37 * n % 400 + 2, n)
    for n in (7, 100)
  },
}


def prefixes(tokens):
  """A Python trie: prefix -> the tokens that may follow."""
  follow = {}
  for row in tokens.tolist():
    for m in range(len(row)):
      follow.setdefault(tuple(row[:m]), set()).add(row[m])
  return follow


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
  ("items", "size"), [(1, 8), (30, 40), (300, 7), (40, 1)]
)
def test_trie_equals_a_dict_of_prefixes(rng, items, size, form):
  ids = random_ids(rng, items, size)
  trie = build_trie(ids, form)
  follow = prefixes(ids.tokens_IxM)
  node_of = {(): 0}
  for m in range(3):
    here = sorted(prefix for prefix in follow if len(prefix) == m)
    node = jnp.array([node_of[prefix] for prefix in here])
    valid = np.asarray(jax.jit(type(trie).children)(trie, node))
    assert valid.shape == (len(here), size)
    row, token = np.nonzero(valid)
    child = jax.jit(type(trie).child)(trie, node[row], token).tolist()
    for r, t, c in zip(row, token.tolist(), child, strict=True):
      node_of[(*here[r], t)] = c
    for prefix, mask in zip(here, valid, strict=True):
      assert set(np.flatnonzero(mask)) == follow[prefix]
  leaves = [prefix for prefix in follow if len(prefix) == 3]
  node = jnp.array([node_of[prefix] for prefix in leaves])
  valid = np.asarray(trie.last_tokens(node, ids.vocabulary[-1]))
  for prefix, mask in zip(leaves, valid, strict=True):
    assert set(np.flatnonzero(mask)) == follow[prefix]
  assert sorted(node_of.values()) == list(range(len(node_of)))


@pytest.mark.parametrize("form", FORMS)
def test_ranges_hold_the_items_below_each_node(rng, form):
  ids = random_ids(rng, 60, 3)
  trie = build_trie(ids, form)
  items = jnp.arange(60)
  order = np.asarray(trie.item_I)
  path = trie.path(items)
  for m in range(4):
    first, count = map(np.asarray, trie.item_range(path[:, m], m))
    for item in range(60):
      same = (ids.tokens_IxM[:, :m] == ids.tokens_IxM[item, :m]).all(axis=1)
      below = order[first[item] : first[item] + count[item]]
      assert set(below) == set(np.flatnonzero(same))
  assert np.array_equal(
    trie.item(path[:, -1], trie.tokens(items)[:, -1]), items
  )
  assert np.array_equal(order[np.asarray(trie.position(items))], items)
  assert np.array_equal(trie.tokens(items), ids.tokens_IxM)


@jax.jit
def all_answers(trie, item, path, tokens, history):
  """Every method's result on the way to each item."""
  return {
    "tokens": trie.tokens(item),
    "path": trie.path(item),
    "position": trie.position(item),
    "children": trie.children(path[:, :-1]),
    "child": trie.child(path[:, :-1], tokens[:, :-1]),
    "last tokens": trie.last_tokens(path[:, -1], 310),
    "item": trie.item(path[:, -1], tokens[:, -1]),
    "ranges": [trie.item_range(node, m) for m, node in enumerate(path.T)],
    "exhausted": exhausted_children(trie, history),
  }


@pytest.mark.parametrize("name", CATALOGUES)
def test_packed_equals_dense(rng, name):
  ids = CATALOGUES[name](rng)
  packed, dense = (build_trie(ids, form) for form in FORMS)
  items, M = ids.tokens_IxM.shape
  sizes = (M, ids.vocabulary[0])
  assert (packed.levels, packed.semantic_size) == sizes
  assert (dense.levels, dense.semantic_size) == sizes
  history = np.full((3, items + 2), -1, np.int32)
  for row, size in zip(history, (items, items // 2, 1), strict=True):
    row[:size] = rng.permutation(items)[:size]
  item = jnp.asarray(rng.permutation(items))
  arguments = (item, dense.path_IxM[item], dense.tokens_IxM[item], history)
  expected = all_answers(dense, *arguments)
  jax.tree.map(
    np.testing.assert_array_equal, all_answers(packed, *arguments), expected
  )
  assert expected["child"].tolist() == dense.path_IxM[item, 1:].tolist()
  assert expected["item"].tolist() == item.tolist()


def test_counts_and_tokens_are_as_narrow_as_they_can_be():
  narrow, wide, widest = (
    build_trie(ids_of([[0, 0]] * n, 1)) for n in (255, 256, 2**16)
  )
  assert narrow.count_GxS.dtype == narrow.tokens_IxM.dtype == np.uint8
  assert wide.count_GxS.dtype == np.uint16
  assert wide.tokens_IxM.dtype == np.uint8  # 256 tokens are 0 to 255
  assert widest.count_GxS.dtype == np.int32
  assert widest.tokens_IxM.dtype == np.uint16
  _, count = widest.item_range(widest.path(jnp.arange(2))[:, -1], 2)
  assert count.tolist() == [2**16] * 2


def test_all_bytes_are_counted_once(rng):
  for form in FORMS:
    trie = build_trie(random_ids(rng, 200, 40), form)
    total = sum(a.nbytes for a in jax.tree.leaves(trie))
    assert trie.mask_bytes() + trie.catalogue_bytes() == total


def test_packed_masks_take_a_bit_a_token_and_a_byte_a_leaf(rng):
  ids = random_ids(rng, 20_000, 64)
  trie = build_trie(ids)
  inner = 1 + 64 + 64 * 64
  leaves = len(np.unique(ids.tokens_IxM[:, :3], axis=0))
  bound = inner * (64 // 8 + 8) + leaves * 1.25 + 40
  assert trie.mask_bytes() <= bound
  assert build_trie(ids, "dense").mask_bytes() > 10 * bound


@pytest.mark.parametrize("form", FORMS)
def test_a_child_is_dead_when_every_item_below_it_is_seen(rng, form):
  ids = random_ids(rng, 50, 3)
  trie = build_trie(ids, form)
  path = np.asarray(trie.path(jnp.arange(50)))
  for size in (0, 1, 10, 40, 50):
    seen = rng.choice(50, size, replace=False)
    history = np.full((1, 55), -1)
    history[0, :size] = seen
    out = jax.jit(exhausted_children)(trie, jnp.asarray(history))
    out = jax.tree.map(np.asarray, out)
    # Rows follow the lexicographic order, padding last.
    seen = [i for i in np.asarray(trie.item_I) if i in seen]
    for h in range(55):
      for m in range(4):
        if h >= size:
          expected = False
        else:
          prefix = ids.tokens_IxM[seen[h], : m + 1]
          below = (ids.tokens_IxM[:, : m + 1] == prefix).all(axis=1)
          expected = set(np.flatnonzero(below)) <= set(seen)
          assert out.token[0, h, m] == prefix[-1]
          assert out.parent[0, h, m] == path[seen[h], m]
        assert bool(out.dead[0, h, m]) == expected
