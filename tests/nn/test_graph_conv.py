import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.data import neighbours, sampling
from mmgrec_jax.data.dataset import Rows
from mmgrec_jax.graph import bipartite_graph, neighbour_mean
from mmgrec_jax.models.graph_rqvae import GraphEncoder
from mmgrec_jax.nn.graph_conv import GraphConv

pytestmark = pytest.mark.usefixtures("optimised")

USERS, ITEMS = 4, 5
USER_E = np.array([0, 0, 1, 2, 2, 2])
ITEM_E = np.array([0, 3, 3, 0, 1, 3])  # user 3 and items 2, 4 are isolated


def dense_mean() -> np.ndarray:
  """Row-normalised adjacency of the whole graph, isolated rows 0."""
  a = np.zeros((USERS + ITEMS, USERS + ITEMS))
  a[USER_E, USERS + ITEM_E] = a[USERS + ITEM_E, USER_E] = 1
  return a / np.maximum(a.sum(axis=1, keepdims=True), 1)


def test_neighbour_mean_is_zero_on_isolated_nodes(rng):
  graph = bipartite_graph(USER_E, ITEM_E, USERS, ITEMS)
  h = rng.normal(size=(USERS + ITEMS, 3)).astype(np.float32)
  mean = np.asarray(neighbour_mean(graph, jnp.asarray(h)))
  np.testing.assert_allclose(mean, dense_mean() @ h, atol=1e-6)
  isolated = [3, USERS + 2, USERS + 4]
  assert (mean[isolated] == 0).all()
  assert (np.abs(mean[0]) > 0).all()


def test_layer_equals_the_dense_matrix_formula(rng):
  graph = bipartite_graph(USER_E, ITEM_E, USERS, ITEMS)
  h = rng.normal(size=(USERS + ITEMS, 6)).astype(np.float32)
  layer = GraphConv(4)
  params = layer.init(jax.random.key(0), graph, h)["params"]
  W1, W2 = (np.asarray(params[n]["kernel"]) for n in ("W1", "W2"))
  expected = h @ W1 + dense_mean() @ h @ W2
  out = layer.apply({"params": params}, graph, h)
  np.testing.assert_allclose(out, expected, atol=1e-5)


def test_encoder_equals_equations_4_and_5(rng):
  graph = bipartite_graph(USER_E, ITEM_E, USERS, ITEMS)
  features = rng.normal(size=(ITEMS, 7)).astype(np.float32)
  encoder = GraphEncoder(USERS, ITEMS, width=3)
  params = encoder.init(jax.random.key(1), graph, features, train=False)
  p = jax.tree.map(np.asarray, params["params"])
  item = np.concatenate([features @ p["W"]["kernel"], p["item_cf"]], axis=1)
  h = np.concatenate([p["user"], item])
  for layer in ("GraphConv_0", "GraphConv_1"):
    W1, W2 = p[layer]["W1"]["kernel"], p[layer]["W2"]["kernel"]
    h = h @ W1 + dense_mean() @ h @ W2
    h = np.where(h > 0, h, 0.01 * h)
  h_user, h_item = encoder.apply(params, graph, features, train=False)
  assert h_user.shape == (USERS, 3) and h_item.shape == (ITEMS, 3)
  np.testing.assert_allclose(h_user, h[:USERS], atol=1e-5)
  np.testing.assert_allclose(h_item, h[USERS:], atol=1e-5)


def test_graph_ignores_the_order_of_interactions(rng):
  order = rng.permutation(len(USER_E))
  a = bipartite_graph(USER_E, ITEM_E, USERS, ITEMS)
  b = bipartite_graph(USER_E[order], ITEM_E[order], USERS, ITEMS)
  assert np.array_equal(a.senders, b.senders)
  assert np.array_equal(a.receivers, b.receivers)


def around(key, users, items, fan_out):
  """A neighbourhood in the graph above."""
  rows = Rows(np.searchsorted(USER_E, np.arange(USERS + 1)), ITEM_E)
  return neighbours.draw_neighbourhood(
    key,
    sampling.on_device(rows, ITEMS),
    neighbours.users_of(rows, ITEMS),
    jnp.array(users),
    jnp.array(items),
    fan_out,
  )


def test_neighbourhoods_of_all_neighbours_equal_the_whole_graph(rng):
  graph = bipartite_graph(USER_E, ITEM_E, USERS, ITEMS)
  features = jnp.asarray(rng.normal(size=(ITEMS, 7)), jnp.float32)
  encoder = GraphEncoder(USERS, ITEMS, width=3)
  params = encoder.init(jax.random.key(1), graph, features, train=False)
  users, items = [3, 2, 0, 2], [4, 3, 0]  # 3 and 4 are isolated
  wanted_user = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
  wanted_item = jnp.asarray(rng.normal(size=(3, 3)), jnp.float32)

  def whole(params):
    h_user, h_item = encoder.apply(params, graph, features, train=False)
    return h_user[jnp.array(users)], h_item[jnp.array(items)]

  def sampled(params):
    near = around(jax.random.key(2), users, items, (3, 3))
    return encoder.apply(params, near, features, train=False)

  @functools.partial(jax.jit, static_argnums=0)
  def run(of, params):
    def loss(params):
      h_user, h_item = of(params)
      user_loss = ((h_user - wanted_user) ** 2).sum()
      return user_loss + (h_item * wanted_item).sum()

    return of(params), jax.grad(loss)(params)

  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  jax.tree.map(close, run(whole, params), run(sampled, params))


def test_a_sampled_mean_is_unbiased(rng):
  graph = bipartite_graph(USER_E, ITEM_E, USERS, ITEMS)
  layer, features = GraphConv(4), 6
  h = jnp.asarray(rng.normal(size=(USERS + ITEMS, features)), jnp.float32)
  params = layer.init(jax.random.key(0), graph, h)
  exact = layer.apply(params, graph, h)

  def sampled(key):
    near = around(key, range(USERS), range(ITEMS), (2,))
    rows_S = jnp.concatenate([near.user_S, USERS + near.item_S])
    return layer.apply(params, near.fans[0], h[rows_S])

  h_KxNxD = jax.vmap(sampled)(jax.random.split(jax.random.key(4), 4000))
  error = np.asarray(h_KxNxD.mean(axis=0) - exact)
  spread = np.asarray(h_KxNxD.std(axis=0)) / 4000**0.5
  assert spread.max() > 0  # something was left out
  assert (np.abs(error) < 5 * spread + 1e-5).all()
