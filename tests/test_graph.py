import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax import graph as graphs
from mmgrec_jax.config import check, default_config
from mmgrec_jax.errors import UserError
from mmgrec_jax.graph import WIDTH, bipartite_graph, in_form, neighbour_mean
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
    "hubs of hubs": skewed(rng, 4, 300, 700),
    "no edges": (none, none, 3, 4),
    "one node": (none, none, 1, 0),
    "one edge": star(1),
    "a row exactly full": star(WIDTH),
    "one neighbour in the second row": star(WIDTH + 1),
    "three rows": star(2 * WIDTH + 1),
  }


@pytest.mark.parametrize("case", make(np.random.default_rng(0)))
def test_ell_equals_segment_mean_in_values_and_gradients(case, rng):
  segment = bipartite_graph(*make(rng)[case])
  ell = graphs.to_ell(segment)
  n = int(segment.n_node[0])
  h_NxD, weight_NxD = (
    jnp.asarray(rng.normal(size=(n, 5)), jnp.float32) for _ in range(2)
  )

  @jax.jit
  def both(graph):
    # A square, so that the gradient depends on the mean's value too.
    total = lambda h: (weight_NxD * neighbour_mean(graph, h) ** 2).sum()
    return neighbour_mean(graph, h_NxD), jax.grad(total)(h_NxD)

  for ours, reference in zip(both(ell), both(segment), strict=True):
    np.testing.assert_allclose(ours, reference, rtol=1e-5, atol=1e-6)
  degree_N = np.bincount(segment.receivers, minlength=n)
  assert (np.asarray(both(ell)[0])[degree_N == 0] == 0).all()
  if len(segment.receivers):
    assert np.abs(both(ell)[1]).max() > 0


def test_ell_holds_every_edge_once(rng):
  segment = bipartite_graph(*skewed(rng, 50, 70, 400))
  ell = graphs.to_ell(segment)
  n = len(ell.degree_N)
  receivers = np.concatenate([np.arange(n), ell.owner_R])
  senders_WxR = np.concatenate([ell.first_WxN, ell.more_WxR], axis=1)
  _, row = np.nonzero(senders_WxR < n)
  pairs = zip(senders_WxR[senders_WxR < n], receivers[row], strict=True)
  edges = zip(segment.senders.tolist(), segment.receivers.tolist(), strict=True)
  assert sorted(pairs) == sorted(edges)
  assert (senders_WxR <= n).all() and len(ell.owner_R) > 0


def test_ell_gradient_writes_no_neighbour_twice(rng):
  """The backward pass gathers; only the extra rows of hubs are scattered."""
  ell = graphs.to_ell(bipartite_graph(*skewed(rng, 50, 70, 400)))
  h = jnp.ones((120, 5))
  gradient = jax.grad(lambda h: neighbour_mean(ell, h).sum())
  scatters = [
    e.invars[2].aval.shape
    for e in jax.make_jaxpr(gradient)(h).eqns
    if "scatter" in e.primitive.name
  ]
  assert scatters and set(scatters) == {(len(ell.owner_R), 5)}


@pytest.mark.parametrize(
  "backend, fast", [("cpu", True), ("gpu", False), ("tpu", False)]
)
def test_auto_is_ell_on_a_cpu_and_segment_elsewhere(backend, fast, monkeypatch):
  graph = bipartite_graph(*star(3))
  monkeypatch.setattr(jax, "default_backend", lambda: backend)
  assert isinstance(in_form(graph, "auto"), graphs.Ell) == fast
  assert isinstance(in_form(graph, "ell"), graphs.Ell)
  assert in_form(graph, "segment") is graph


class Asked(Exception):
  pass


@pytest.mark.parametrize("form", ["auto", "ell", "segment"])
def test_the_setting_reaches_the_graph(form, small_data, monkeypatch, tmp_path):
  def record(graph, form):
    raise Asked(form)

  monkeypatch.setattr(embed, "in_form", record)
  config = default_config()
  config.embed.graph = form
  with pytest.raises(Asked, match=form):
    embed.embed(config, small_data, Workdir(tmp_path, config, small_data))


def test_an_unknown_form_is_refused_by_name():
  config = default_config()
  config.embed.graph = "elll"
  with pytest.raises(UserError, match="embed.graph.*did you mean 'ell'"):
    check(config)
