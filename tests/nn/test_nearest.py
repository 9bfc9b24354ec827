import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.nn import nearest
from mmgrec_jax.nn.nearest import SparseRows


def dense(matrix):
  out = np.zeros([len(matrix.index_RxC)] * 2)
  rows = np.arange(len(out))[:, None]
  np.add.at(out, (rows, matrix.index_RxC), matrix.weight_RxC)
  return out


def random_rows(rng, rows=30, columns=5):
  return SparseRows(
    jnp.asarray(rng.integers(0, rows, (rows, columns)), jnp.int32),
    jnp.asarray(rng.normal(0.2, 1.0, (rows, columns)), jnp.float32),
  )


@pytest.mark.parametrize("chunk", [7, 256])
def test_nearest_equals_a_full_sort(rng, monkeypatch, chunk):
  monkeypatch.setattr(nearest, "CHUNK", chunk)
  x = rng.normal(size=(30, 4)).astype("f4")
  order = np.argsort(-(x @ x.T), axis=1)[:, :6]
  np.testing.assert_array_equal(nearest.nearest(jnp.asarray(x), 6), order)


def test_nearest_asks_for_full_precision():
  program = jax.make_jaxpr(lambda x: nearest.nearest(x, 2))(np.ones((4, 3)))
  assert "precision=(Precision.HIGHEST, Precision.HIGHEST)" in str(program)


def test_each_of_many_equal_rows_is_its_own_neighbour():
  x_RxF = jnp.array([[0.6, 0.8]] * 7 + [[0.8, -0.6]])
  found = nearest.most_alike(x_RxF, 3)
  np.testing.assert_array_equal(
    found.index_RxC,
    [*[[0, 1, 2]] * 3, [0, 1, 3], [0, 1, 4], [0, 1, 5], [0, 1, 6], [7, 0, 1]],
  )
  np.testing.assert_allclose(found.weight_RxC[:7], 1, rtol=1e-6)


def test_fewer_rows_than_neighbours_are_all_named(rng):
  x = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
  index = np.sort(nearest.nearest(x, 10), axis=1)
  np.testing.assert_array_equal(index, np.tile(np.arange(4), (4, 1)))


def test_memory_grows_linearly_in_the_rows():
  def temporary(rows):
    x = jax.ShapeDtypeStruct((rows, 16), jnp.float32)
    compiled = jax.jit(lambda x: nearest.nearest(x, 10)).lower(x).compile()
    memory = compiled.memory_analysis()
    return memory.temp_size_in_bytes + memory.output_size_in_bytes

  small, large = temporary(4096), temporary(4 * 4096)
  assert large < 4.4 * small  # a dense matrix would take 16 times as much


def test_inner_products_and_their_gradient(rng):
  x = jnp.asarray(rng.normal(size=(9, 4)), jnp.float32)
  index = jnp.asarray(rng.integers(0, 9, (9, 3)), jnp.int32)
  g = jnp.asarray(rng.normal(size=(9, 3)), jnp.float32)
  take = lambda x: jnp.take_along_axis(x @ x.T, index, axis=1)
  ours = lambda x: nearest.inner_products(x, index)
  np.testing.assert_allclose(ours(x), take(x), atol=1e-5)
  gradient = lambda f: jax.jit(jax.grad(lambda x: (f(x) * g).sum()))(x)
  np.testing.assert_allclose(gradient(ours), gradient(take), atol=1e-5)


def test_multiply_equals_the_dense_product_with_its_gradients(rng):
  matrix = random_rows(rng)
  h = jnp.asarray(rng.normal(size=(30, 4)), jnp.float32)
  g = jnp.asarray(rng.normal(size=(30, 4)), jnp.float32)
  np.testing.assert_allclose(
    nearest.multiply(matrix, h), dense(matrix) @ h, atol=1e-5
  )

  def total(weight, h):
    moved = matrix.replace(weight_RxC=weight)
    return (nearest.multiply(moved, h) * g).sum()

  of_weight, of_h = jax.jit(jax.grad(total, (0, 1)))(matrix.weight_RxC, h)
  np.testing.assert_allclose(of_h, dense(matrix).T @ g, atol=1e-5)
  expected = np.take_along_axis(np.asarray(g @ h.T), matrix.index_RxC, axis=1)
  np.testing.assert_allclose(of_weight, expected, atol=1e-5)


def test_normalised_rows_equal_the_dense_form_and_bad_sums_give_zeros(rng):
  matrix = random_rows(rng)
  whole = dense(matrix)
  sums = whole.sum(axis=1)
  assert (sums < 0).any() and (sums > 0).any()
  scale = np.where(sums > 0, np.abs(sums) ** -0.5, 0)
  np.testing.assert_allclose(
    dense(nearest.normalise_rows(matrix)),
    scale[:, None] * whole * scale,
    atol=1e-5,
  )

  def total(weight):
    moved = nearest.normalise_rows(matrix.replace(weight_RxC=weight))
    return moved.weight_RxC.sum()

  gradient = jax.jit(jax.grad(total))
  assert np.isfinite(gradient(matrix.weight_RxC)).all()
  zeros = jnp.zeros_like(matrix.weight_RxC)
  assert np.isfinite(gradient(zeros)).all()


def test_weighted_sum_equals_the_dense_sum(rng):
  a, b = random_rows(rng), random_rows(rng, columns=2)
  both = nearest.weighted_sum([(jnp.float32(0.3), a), (jnp.float32(2), b)])
  np.testing.assert_allclose(
    dense(both), 0.3 * dense(a) + 2 * dense(b), atol=1e-5
  )
