import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.data import neighbours, sampling
from mmgrec_jax.data.dataset import TRAIN, Rows

# Nodes of 6, 2, 0 and 3 neighbours.
OFFSET = jnp.array([0, 6, 8, 8, 11])
NEIGHBOUR_E = jnp.array([1, 3, 4, 7, 8, 9, 2, 5, 0, 5, 6])


def draw(key, nodes, fan_out):
  drawn, real = neighbours.draw_neighbours(
    key, OFFSET, NEIGHBOUR_E, jnp.array(nodes), fan_out
  )
  return np.asarray(drawn), np.asarray(real)


@pytest.mark.parametrize("fan_out", [1, 3, 6, 9])
def test_draws_are_a_nodes_own_neighbours_none_twice(fan_out):
  nodes = np.tile(np.arange(4), 5)
  rows = np.split(np.asarray(NEIGHBOUR_E), np.asarray(OFFSET)[1:-1])
  for seed in range(4):
    drawn, real = draw(jax.random.key(seed), nodes, fan_out)
    for node, of_node, there in zip(nodes, drawn, real, strict=True):
      own = of_node[there].tolist()
      assert len(own) == min(fan_out, len(rows[node])) == len(set(own))
      assert set(own) <= set(rows[node].tolist())
      assert (of_node[~there] == 0).all()


def test_every_pair_of_neighbours_is_drawn_as_often():
  keys = jax.random.split(jax.random.key(0), 6000)
  drawn, _ = jax.vmap(
    lambda key: neighbours.draw_neighbours(
      key, OFFSET, NEIGHBOUR_E, jnp.array([0]), 2
    )
  )(keys)
  pairs = np.sort(np.asarray(drawn)[:, 0], axis=1)
  found, count = np.unique(pairs, axis=0, return_counts=True)
  assert len(found) == 15
  # Five standard deviations of a pair's count.
  np.testing.assert_allclose(count, 400, atol=5 * 20)


def test_a_node_draws_alike_wherever_it_stands():
  key = jax.random.key(3)
  (one, *_), _ = draw(key, [0, 1, 3], 2)
  (*_, other), _ = draw(key, [3, 0], 2)
  assert np.array_equal(one, other)
  drawn = {tuple(draw(jax.random.key(k), [0], 2)[0][0]) for k in range(9)}
  assert len(drawn) > 1


def test_users_of_an_item_are_those_who_have_it(small_data):
  rows = small_data.rows(TRAIN)
  found = neighbours.users_of(rows, small_data.n_items)
  user_E, item_E = small_data.edges(TRAIN)
  for item in range(small_data.n_items):
    own = found.user_E[found.offset[item] : found.offset[item + 1]]
    assert np.array_equal(own, np.sort(user_E[item_E == item]))


def test_items_nobody_has_stand_in_the_rows_of_users():
  rows = Rows(np.array([0, 1, 3]), np.array([2, 2, 4]))
  found = neighbours.users_of(rows, 6)
  assert found.offset.tolist() == [0, 0, 0, 2, 2, 3, 3]
  assert found.user_E.tolist() == [0, 1, 1]


def test_hops_grow_outwards_with_the_batch_first(small_data):
  rows = small_data.rows(TRAIN)
  user_B, item_C = jnp.array([4, 7]), jnp.array([1, 0, 9])
  around = neighbours.draw_neighbourhood(
    jax.random.key(0),
    sampling.on_device(rows, 30),
    neighbours.users_of(rows, 30),
    user_B,
    item_C,
    (3, 2),
  )
  assert around.user_S[:2].tolist() == [4, 7]
  assert around.item_S[:3].tolist() == [1, 0, 9]
  inner, outer = around.fans[1], around.fans[0]
  assert inner.real_UxF.shape == (2, 3) and inner.real_IxF.shape == (3, 3)
  users, items = 2 + 3 * 3, 3 + 2 * 3
  assert outer.real_UxF.shape == (users, 2)
  assert outer.real_IxF.shape == (items, 2)
  assert around.user_S.shape == (users + items * 2,)
  assert around.item_S.shape == (items + users * 2,)
