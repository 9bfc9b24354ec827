import numpy as np
import pytest

from mmgrec_jax.serving import unseen

N, F, D = 40, 6, 3


@pytest.fixture
def x(rng):
  return rng.standard_normal((N, F)).astype(np.float32)


def test_a_linear_relation_is_found(rng, x):
  W, b = rng.standard_normal((F, D)), rng.standard_normal(D)
  found = unseen.learn_map(x, x @ W + b, seed=0)
  assert found.r2 > 0.999
  later = rng.standard_normal((5, F)).astype(np.float32)
  np.testing.assert_allclose(found(later), later @ W + b, atol=0.02)


def test_leaving_out_in_closed_form_is_leaving_out(rng, x):
  h = x @ rng.standard_normal((F, D)) + 2 * rng.standard_normal((N, D)) + 1
  unit = np.linalg.eigvalsh((x - x.mean(0)).T @ (x - x.mean(0))).mean()
  errors = []
  for strength in unseen.STRENGTHS:
    error = 0
    for out in range(N):
      kept = np.arange(N) != out
      x_k, h_k = x[kept].astype(float), h[kept]
      x_c, h_c = x_k - x_k.mean(0), h_k - h_k.mean(0)
      gram = x_c.T @ x_c + strength * unit * np.eye(F)
      W = np.linalg.solve(gram, x_c.T @ h_c)
      says = (x[out] - x_k.mean(0)) @ W + h_k.mean(0)
      error += np.square(h[out] - says).sum()
    errors.append(error)
  spread = np.square(h - h.mean(0)).sum()
  found = unseen.learn_map(x, h, seed=0)
  assert 0 < found.r2 < 0.9
  assert found.r2 == pytest.approx(1 - min(errors) / spread, rel=1e-6)


def test_features_that_say_nothing_give_the_mean(rng, x):
  h = rng.standard_normal((N, D)) + 5
  found = unseen.learn_map(x, h, seed=0)
  assert found.r2 < 0.1
  np.testing.assert_allclose(found(x), np.tile(h.mean(0), (N, 1)), atol=0.5)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_few_items_or_constant_features_are_no_error(rows):
  found = unseen.learn_map(np.ones((rows, F)), np.eye(rows, D), seed=0)
  expected = np.eye(rows, D).mean(axis=0, keepdims=True)
  np.testing.assert_allclose(found(np.ones((1, F))), expected, atol=1e-6)


def test_of_many_items_some_are_drawn(rng, x, monkeypatch):
  monkeypatch.setattr(unseen, "MOST", 20)
  h = x @ rng.standard_normal((F, D)) + rng.standard_normal((N, D))
  once, again = (unseen.learn_map(x, h, seed=3) for _ in range(2))
  np.testing.assert_array_equal(once.W_FxD, again.W_FxD)
  drawn = np.random.default_rng(3).choice(N, 20, replace=False)
  alone = unseen.learn_map(x[drawn], h[drawn], seed=3)
  np.testing.assert_array_equal(once.W_FxD, alone.W_FxD)
