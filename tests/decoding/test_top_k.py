import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.decoding.top_k import GROUP, pruned_top_k, top_k


def check(find, scores, k):
  got = jax.jit(find, static_argnums=1)(jnp.asarray(scores), k)
  want = jax.lax.top_k(jnp.asarray(scores), k)
  for a, b in zip(got, want, strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


def rows(rng, n):
  """Scores with ties, -inf and signed zeros of every density."""
  scores = rng.normal(size=(12, n)).astype(np.float32)
  scores[1:4] = rng.integers(-3, 1, (3, n))
  scores[4] = -np.inf
  scores[5] = 0.5
  scores[6, ::2] = -0.0
  scores[6, 1::2] = 0.0
  for row, share in zip(scores[7:], (0.1, 0.5, 0.9, 0.99, 0.999), strict=True):
    row[rng.random(n) < share] = -np.inf
  return scores


@pytest.mark.parametrize("n", [64, 320, 327, 1000, 2048])
def test_pruned_top_k_equals_lax_with_its_tie_order(rng, n):
  groups = -(-n // GROUP)
  for k in {1, 2, groups // 2, groups}:
    check(pruned_top_k, rows(rng, n), k)


@pytest.mark.parametrize(
  ("n", "k"), [(1, 1), (10, 10), (300, 50), (127, 1), (128, 1), (2560, 10)]
)
def test_top_k_equals_lax_on_both_sides_of_its_threshold(rng, n, k):
  check(top_k, rows(rng, n), k)


def test_top_k_prunes_large_inputs_only():
  def program(n, k):
    scores = jnp.zeros((2, n))
    return jax.jit(top_k, static_argnums=1).lower(scores, k).as_text()

  assert "reduce" in program(50 * 256, 50)  # the groups' maxima
  assert "reduce" not in program(50 * 64, 50)
