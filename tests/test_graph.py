import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.config import check, default_config
from mmgrec_jax.errors import UserError
from mmgrec_jax.graph import WIDTH, Ell, bipartite_graph, neighbour_mean
from mmgrec_jax.stages import embed
from mmgrec_jax.workdir import Workdir


def skewed(rng, n_users, n_items, n_edges):
  """Distinct interactions; the first users and items have nearly all."""
  u, i = (
    (n * rng.random(4 * n_edges) ** 3).astype(int) for n in (n_users, n_items)
  )
  edge = rng.permutation(np.unique(u * n_items + i))[:n_edges]
  return *np.divmod(edge, n_items), n_users, n_items


def star(n_items):
  return np.zeros(n_items, int), np.arange(n_items), 1, n_items


def make(rng):
  none = np.zeros(0, int)
  return {
    "hubs and isolated nodes": skewed(rng, 50, 70, 400),
    "more items than users": skewed(rng, 4, 300, 700),
    "no edges": (none, none, 3, 4),
    "one node": (none, none, 1, 0),
    "more users than items": skewed(rng, 300, 4, 700),
    "one edge": star(1),
    "a row exactly full": star(WIDTH),
    "one neighbour in the second row": star(WIDTH + 1),
    "three rows": star(2 * WIDTH + 1),
  }


@pytest.mark.parametrize("case", make(np.random.default_rng(0)))
def test_ell_equals_segment_mean_in_values_and_gradients(case, rng):
  edges = make(rng)[case]
  segment, ell = (bipartite_graph(*edges, form) for form in ("segment", "ell"))
  n = edges[2] + edges[3]
  h_NxC, kernel_CxD, weight_NxD = (
    jnp.asarray(rng.normal(size=size), jnp.float32)
    for size in ((n, 5), (5, 3), (n, 3))
  )

  @jax.jit
  def both(graph):
    mean = lambda h, kernel: neighbour_mean(graph, h, lambda h: h @ kernel)
    # A square, so that the gradient depends on the mean's value too.
    total = lambda *inputs: (weight_NxD * mean(*inputs) ** 2).sum()
    gradients = jax.grad(total, argnums=(0, 1))(h_NxC, kernel_CxD)
    return neighbour_mean(graph, h_NxC), mean(h_NxC, kernel_CxD), *gradients

  for ours, reference in zip(both(ell), both(segment), strict=True):
    np.testing.assert_allclose(ours, reference, rtol=1e-4, atol=1e-5)
  degree_N = np.bincount(segment.receivers, minlength=n)
  plain, _, gradient, _ = (np.asarray(a) for a in both(ell))
  assert (plain[degree_N == 0] == 0).all()
  assert (gradient[degree_N == 0] == 0).all()
  if degree_N.any():
    assert np.abs(gradient).max() > 0


@pytest.mark.parametrize("n_users, n_items", [(4, 300), (300, 4), (50, 70)])
def test_rows_hold_every_edge_once_from_both_ends(n_users, n_items, rng):
  edges = skewed(rng, n_users, n_items, 400)
  ell = bipartite_graph(*edges, "ell")

  def pairs(rows, n_neighbours):
    owners = np.concatenate([np.arange(len(rows.degree_N)), rows.owner_R])
    found = np.concatenate([rows.first_WxN, rows.more_WxR], axis=1)
    column, row = np.nonzero(found < n_neighbours)
    assert (found <= n_neighbours).all()
    return sorted(zip(owners[row], found[column, row], strict=True))

  items_of_users = pairs(ell.of_users, n_items)
  assert len(ell.of_users.owner_R) + len(ell.of_items.owner_R) > 0
  assert items_of_users == sorted(zip(*edges[:2], strict=True))
  assert sorted((u, i) for i, u in pairs(ell.of_items, n_users)) == (
    items_of_users
  )


def test_ell_gradient_scatters_no_edge(rng):
  """The backward pass gathers; only the further rows of hubs are scattered."""
  ell = bipartite_graph(*skewed(rng, 50, 70, 400), "ell")
  gradient = jax.grad(lambda h: neighbour_mean(ell, h).sum())
  scattered = [
    equation.invars[2].aval.shape[0]
    for equation in jax.make_jaxpr(gradient)(jnp.ones((120, 5))).eqns
    if "scatter" in equation.primitive.name
  ]
  rows = [len(ell.of_users.owner_R), len(ell.of_items.owner_R)]
  assert set(scattered) == set(rows) and sum(rows) < 400 / 4


@pytest.mark.parametrize("n_users, n_items", [(4, 300), (300, 4)])
def test_the_linear_map_is_applied_to_the_fewer_rows(n_users, n_items, rng):
  ell = bipartite_graph(*skewed(rng, n_users, n_items, 400), "ell")
  seen = []

  def linear(h):
    seen.append(len(h))
    return h

  neighbour_mean(ell, jnp.ones((304, 5)), linear)
  assert seen == [4, 4]


@pytest.mark.parametrize(
  "backend, fast", [("cpu", True), ("gpu", False), ("tpu", False)]
)
def test_auto_is_ell_on_a_cpu_and_segment_elsewhere(backend, fast, monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: backend)
  is_ell = lambda form: isinstance(bipartite_graph(*star(3), form), Ell)
  assert is_ell("auto") == fast
  assert is_ell("ell") and not is_ell("segment")


class Asked(Exception):
  pass


@pytest.mark.parametrize("form", ["auto", "ell", "segment"])
def test_the_setting_reaches_the_graph(form, small_data, monkeypatch, tmp_path):
  def record(user_E, item_E, n_users, n_items, form):
    raise Asked(form)

  monkeypatch.setattr(embed, "bipartite_graph", record)
  config = default_config()
  config.graph = form
  with pytest.raises(Asked, match=form):
    embed.embed(config, small_data, Workdir(tmp_path, config, small_data))


def test_an_unknown_form_is_refused_by_name():
  config = default_config()
  config.graph = "elll"
  with pytest.raises(UserError, match="graph.*did you mean 'ell'"):
    check(config)
