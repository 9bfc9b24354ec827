import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.graph import bipartite_graph
from mmgrec_jax.nn.graph_attention import attend


def skewed(rng, n_users, n_items, n_edges):
  """Distinct interactions; the first users and items have nearly all."""
  u, i = (
    (n * rng.random(4 * n_edges) ** 3).astype(int) for n in (n_users, n_items)
  )
  edge = rng.permutation(np.unique(u * n_items + i))[:n_edges]
  return *np.divmod(edge, n_items), n_users, n_items


def make(rng):
  none = np.zeros(0, int)
  return {
    "hubs and isolated nodes": skewed(rng, 50, 70, 400),
    "more items than users": skewed(rng, 4, 300, 700),
    "more users than items": skewed(rng, 300, 4, 700),
    "no edges": (none, none, 3, 4),
  }


@pytest.mark.parametrize("case", make(np.random.default_rng(0)))
@pytest.mark.parametrize("scale", [1, 30])
def test_ell_equals_segment_softmax_in_values_and_gradients(case, scale, rng):
  edges = make(rng)[case]
  n, heads, width = edges[2] + edges[3], 3, 5
  source, target = scale * rng.normal(size=(2, n, heads))
  z, weight = rng.normal(size=(2, n, heads, width))
  inputs = [jnp.asarray(a, jnp.float32) for a in (source, target, z)]

  @jax.jit
  def both(graph):
    # A square, so that the gradient depends on the mean's value too.
    total = lambda *inputs: (weight * attend(graph, *inputs) ** 2).sum()
    return attend(graph, *inputs), *jax.grad(total, argnums=(0, 1, 2))(*inputs)

  segment, ell = (
    both(bipartite_graph(*edges, form)) for form in ("segment", "ell")
  )
  for ours, reference in zip(ell, segment, strict=True):
    # float32 knows the exponent of a logit of 100 to 1e-5.
    size = np.abs(reference).max()
    np.testing.assert_allclose(ours, reference, rtol=1e-3, atol=5e-4 * size)


def test_ell_gradient_scatters_no_edge(rng):
  graph = bipartite_graph(*skewed(rng, 50, 70, 400), "ell")
  one = jnp.ones((120, 1))
  gradient = jax.grad(lambda z: attend(graph, one, one, z).sum())
  scattered = [
    equation.invars[2].aval.shape[0]
    for equation in jax.make_jaxpr(gradient)(jnp.ones((120, 1, 5))).eqns
    if "scatter" in equation.primitive.name
  ]
  rows = [len(graph.of_users.owner_R), len(graph.of_items.owner_R)]
  assert set(scattered) == set(rows) and sum(rows) < 400 / 4
