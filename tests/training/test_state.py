import jax.numpy as jnp
import numpy as np

from mmgrec_jax.config import optimizer_defaults
from mmgrec_jax.training.state import make_optimizer


def updates(n, **changes):
  settings = optimizer_defaults(learning_rate=0.1)
  settings.update(**changes)
  optimizer = make_optimizer(settings, total_steps=100)
  weights = jnp.array([2.0, -1.0])
  state, out = optimizer.init(weights), []
  for _ in range(n):
    change, state = optimizer.update(jnp.array([0.3, 0.0]), state, weights)
    out.append(np.asarray(change))
  return np.array(out)


def test_sgd_adds_l2_to_the_gradient():
  out = updates(
    2, name="sgd", schedule="constant", warmup=0.01, weight_decay=0.5
  )
  np.testing.assert_allclose(out[0], 0)  # the first step of the warm-up
  np.testing.assert_allclose(out[1], -0.1 * np.array([1.3, -0.5]), rtol=1e-6)


def test_warm_up_rises_and_cosine_falls():
  size = np.abs(updates(100, name="sgd", warmup=0.1)[:, 0])
  assert (np.diff(size[:10]) > 0).all()
  assert size[10] == size.max()
  assert (np.diff(size[11:]) < 0).all()
  assert size[-1] < 0.02 * size.max()


def test_gradients_are_clipped_by_their_norm():
  free = updates(2, name="sgd", schedule="constant", warmup=0.01, clip=1e9)
  cut = updates(2, name="sgd", schedule="constant", warmup=0.01, clip=0.03)
  np.testing.assert_allclose(cut[1], free[1] / 10, rtol=1e-5)


def test_muon_turns_a_matrix_as_far_in_every_direction(rng):
  settings = optimizer_defaults(
    name="muon", schedule="constant", warmup=0.01, learning_rate=0.1
  )
  optimizer = make_optimizer(settings, total_steps=100)
  weights = {"matrix": jnp.zeros((6, 4)), "bias": jnp.zeros(4)}
  gradient = {
    "matrix": jnp.asarray(rng.normal(size=(6, 4)) * [1, 1, 1, 0.1]),
    "bias": jnp.array([0.3, -0.2, 0.1, 0.0]),
  }
  state = optimizer.init(weights)
  for _ in range(2):  # the first is the first step of the warm-up
    change, state = optimizer.update(gradient, state, weights)
  turned = np.linalg.svd(change["matrix"], compute_uv=False)
  before = np.linalg.svd(gradient["matrix"], compute_uv=False)
  assert turned.max() / turned.min() < 2 < before.max() / before.min()
  # As large as AdamW's steps come to: a fifth of the learning rate.
  assert 0.5 < np.sqrt(np.mean(change["matrix"] ** 2)) / (0.2 * 0.1) < 1.5
  bias = change["bias"] / change["bias"][0]  # as AdamW: the gradient's signs
  np.testing.assert_allclose(bias, [1, -1, 1, 0], atol=1e-4)
