import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.models.graph_rqvae import RQVAE, rqvae_loss
from mmgrec_jax.training import quantizing


@pytest.fixture
def fitted(rng):
  """An RQ-VAE, its parameters, and 30 rows."""
  model = RQVAE(hidden=6, latent=4, levels=2, codebook_size=5)
  x = jnp.asarray(rng.normal(size=(30, 7)), jnp.float32)
  return model, model.init(jax.random.key(0), x)["params"], x


@pytest.mark.parametrize("rows", [7, 10, 30, 64])
def test_all_items_go_through_in_parts(fitted, rows, monkeypatch):
  model, params, x = fitted
  _, x_hat, quantized = model.apply({"params": params}, x)
  _, (terms, _) = rqvae_loss(model, params, x, 0.25)
  monkeypatch.setattr(quantizing, "ROWS", rows)
  codes, error_I = quantizing.quantize(model, params, x)
  assert np.array_equal(codes, quantized.codes_BxM)
  distance_I = ((x - x_hat) ** 2).sum(axis=1)
  np.testing.assert_allclose(error_I, distance_I, rtol=1e-5)
  error = quantizing.mean_error(model, params, x, 0.25)
  np.testing.assert_allclose(error, terms["reconstruction"].mean(), rtol=1e-5)


def test_items_are_no_constant_of_the_program(fitted):
  model, params, x = fitted
  least = jax.config.jax_captured_constants_warn_bytes
  jax.config.update("jax_captured_constants_warn_bytes", x.nbytes)
  try:
    quantizing.quantize(model, params, x)  # a warning is an error
  finally:
    jax.config.update("jax_captured_constants_warn_bytes", least)


def test_kmeans_starts_from_some_of_many_rows(fitted, monkeypatch):
  model, _, x = fitted
  monkeypatch.setattr(quantizing, "START_ROWS", 12)
  chosen = quantizing.start_rows(30, seed=1)
  assert len(set(chosen.tolist())) == 12 and chosen.max() < 30
  start = lambda x: quantizing.init_rqvae(
    model, x, "kmeans", jax.random.key(0), seed=1
  )["codebooks"]
  np.testing.assert_array_equal(start(x), start(x[chosen]))
