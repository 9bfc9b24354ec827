import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.models.graph_rqvae import RQVAE, rqvae_loss
from mmgrec_jax.nn import quantizer


def test_quantizer_equals_brute_force(rng):
  z = rng.normal(size=(50, 4)).astype(np.float32)
  books = rng.normal(size=(3, 9, 4)).astype(np.float32)
  out = quantizer.residual_quantize(jnp.asarray(z), jnp.asarray(books))
  residual = z.astype(np.float64)
  for m in range(3):
    distance = ((residual[:, None] - books[m][None]) ** 2).sum(-1)
    code = distance.argmin(axis=1)
    assert np.array_equal(out.codes_BxM[:, m], code)
    np.testing.assert_allclose(out.residuals_MxBxD[m], residual, atol=1e-5)
    residual = residual - books[m][code]
  np.testing.assert_allclose(z - out.z_hat_BxD, residual, atol=1e-5)


def test_gradient_goes_straight_through(rng):
  z, target = rng.normal(size=(2, 5, 3)).astype(np.float32)
  books = jnp.asarray(rng.normal(size=(2, 4, 3)), jnp.float32)

  def loss(z):
    z_hat = quantizer.residual_quantize(z, books).z_hat_BxD
    through = quantizer.straight_through(z, z_hat)
    return (through * target).sum(), (through, z_hat)

  gradient, (through, z_hat) = jax.grad(loss, has_aux=True)(z)
  np.testing.assert_allclose(gradient, target, atol=1e-6)
  np.testing.assert_allclose(through, z_hat, atol=1e-6)


def test_commitment_loss_by_hand():
  books = jnp.array([[[1.0, 0.0], [5.0, 5.0]]])
  z = jnp.array([[0.0, 0.0], [1.0, 2.0]])
  loss = lambda z, books: quantizer.commitment_loss(
    quantizer.residual_quantize(z, books), beta=0.25
  ).mean()
  # Squared distances 1 and 4: mean 2.5, once and beta times.
  assert float(loss(z, books)) == pytest.approx(2.5 * 1.25)
  to_z, to_books = jax.grad(loss, argnums=(0, 1))(z, books)
  gap = np.asarray(z) - np.asarray(books[0, 0])
  np.testing.assert_allclose(to_z, 0.25 * gap, atol=1e-6)
  np.testing.assert_allclose(to_books[0, 0], -gap.sum(axis=0))
  assert (to_books[0, 1] == 0).all()


def test_kmeans_finds_planted_clusters(rng):
  centres = 10 * rng.normal(size=(6, 3))
  x = np.repeat(centres, 20, axis=0) + 0.01 * rng.normal(size=(120, 3))
  found, code = quantizer.kmeans(x, 6, seed=0)
  assert len(np.unique(code)) == 6
  assert np.abs(x - found[code]).max() < 0.1


def test_kmeans_with_fewer_distinct_rows_than_centres(rng):
  x = np.repeat(rng.normal(size=(3, 2)), 5, axis=0).astype(np.float32)
  centres, code = quantizer.kmeans(x, 8, seed=0)
  assert centres.shape == (8, 2) and np.isfinite(centres).all()
  assert np.array_equal(centres[code], x)
  assert len(np.unique(centres, axis=0)) == 8


def test_kmeans_of_one_repeated_row():
  centres, code = quantizer.kmeans(np.ones((7, 4)), 3, seed=0)
  assert np.isfinite(centres).all()
  assert np.array_equal(centres[code], np.ones((7, 4)))


def test_kmeans_uses_every_centre_despite_duplicates(rng):
  x = np.concatenate([np.zeros((500, 2)), rng.normal(size=(20, 2))])
  _, code = quantizer.kmeans(x, 10, seed=0)
  assert len(np.unique(code)) == 10


def test_kmeans_start_reconstructs_better_than_uniform(rng):
  z = rng.normal(size=(200, 8)).astype(np.float32)
  error = lambda books: float(
    ((z - quantizer.residual_quantize(z, books).z_hat_BxD) ** 2).mean()
  )
  model = RQVAE(hidden=8, latent=8, levels=3, codebook_size=16)
  uniform = model.init(jax.random.key(0), z)["params"]["codebooks"]
  started = jnp.asarray(quantizer.kmeans_codebooks(z, 3, 16, seed=0))
  assert error(started) < 0.5 * error(uniform)


def test_rqvae_loss_does_not_move_its_target(rng):
  h = jnp.asarray(rng.normal(size=(10, 6)), jnp.float32)
  model = RQVAE(hidden=5, latent=4, levels=3, codebook_size=7)
  params = model.init(jax.random.key(0), h)["params"]
  loss = lambda params, h: rqvae_loss(model, params, h, 0.25)[0].mean()
  to_params, to_h = jax.grad(loss, argnums=(0, 1))(params, h)
  assert (to_h == 0).all()
  assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(to_params))
