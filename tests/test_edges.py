import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax import edges
from mmgrec_jax.edges import edge_dot, edge_sum

S, R, H, D = 6, 9, 2, 4


@pytest.fixture(params=[0, 1, 8, 21])
def case(request, rng, monkeypatch):
  """Some edges, more than one chunk of them, the last one not full."""
  monkeypatch.setattr(edges, "CHUNK", 8)
  n = request.param
  normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  sender_E, receiver_E = rng.integers(0, S, n), rng.integers(0, R, n)
  ends = jnp.asarray(sender_E), jnp.asarray(receiver_E)
  return normal(n, H), normal(S, H, D), normal(R, H, D), *ends


def dense_sum(weight, x, sender, receiver):
  matrix = jnp.zeros((R, S, H)).at[receiver, sender].add(weight)
  return jnp.einsum("rsh,shd->rhd", matrix, x)


def dense_dot(x, y, sender, receiver):
  return jnp.einsum("shd,rhd->srh", x, y)[sender, receiver]


def agree(ours, reference, *arrays):
  """Values and gradients, of the square: they depend on the value too."""

  def check(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)

  check(ours(*arrays), reference(*arrays))
  gradient = lambda f: jax.jit(
    jax.grad(lambda *a: (f(*a) ** 2).sum(), argnums=(0, 1))
  )
  jax.tree.map(check, gradient(ours)(*arrays), gradient(reference)(*arrays))


def test_edge_sum_equals_a_dense_product(case):
  weight, x, _, *ends = case
  agree(
    lambda w, x: edge_sum(w, x, *ends, R),
    lambda w, x: dense_sum(w, x, *ends),
    weight, x,
  )  # fmt: skip


def test_edge_dot_equals_a_dense_product(case):
  _, x, y, *ends = case
  agree(
    lambda x, y: edge_dot(x, y, *ends),
    lambda x, y: dense_dot(x, y, *ends),
    x, y,
  )  # fmt: skip


def test_neither_pass_holds_a_vector_for_every_edge():
  """Memory is that of the ends' vectors and of the edges' numbers."""
  n, width = 100_000, 64
  ends = jnp.zeros(n, jnp.int32), jnp.zeros(n, jnp.int32)

  def loss(weight, x, y):
    total = edge_sum(weight * edge_dot(x, y, *ends), x, *ends, len(y))
    return (total**2).sum()

  arrays = jnp.ones((n, 1)), jnp.ones((S, 1, width)), jnp.ones((R, 1, width))
  compiled = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(*arrays).compile()
  memory = compiled.memory_analysis().temp_size_in_bytes
  assert memory < 4 * n * width / 4
