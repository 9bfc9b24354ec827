import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.nn.dropout import Dropout, hashed_bits


def dropped(x, rate, seed=0, deterministic=False):
  return np.asarray(
    Dropout(rate).apply(
      {}, x, deterministic, rngs={"dropout": jax.random.key(seed)}
    )
  )


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_as_many_entries_go_as_the_rate_says_and_the_mean_stays(rate):
  out = dropped(jnp.ones((400, 500)), rate)
  assert abs((out == 0).mean() - rate) < 0.005
  np.testing.assert_allclose(out[out > 0], 1 / (1 - rate), rtol=1e-6)


def test_without_training_or_rate_nothing_changes(rng):
  x = jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)
  np.testing.assert_array_equal(dropped(x, 0.5, deterministic=True), x)
  np.testing.assert_array_equal(dropped(x, 0.0), x)


def test_the_gradient_passes_where_entries_are_kept(rng):
  x = jnp.asarray(rng.normal(size=(20, 30)), jnp.float32)
  total = lambda x: Dropout(0.3).apply(
    {}, x, False, rngs={"dropout": jax.random.key(0)}
  )
  gradient = jax.grad(lambda x: total(x).sum())(x)
  np.testing.assert_allclose(gradient, dropped(jnp.ones_like(x), 0.3))


def test_masks_of_other_keys_rows_and_columns_are_unrelated():
  keys = jax.random.split(jax.random.key(3), 20)
  bits = jnp.stack([hashed_bits(k, (64, 256)) for k in keys])
  mask = (np.asarray(bits) >= 2**31).astype(float)
  for rows in (
    mask.reshape(20, -1),
    mask.transpose(1, 0, 2).reshape(64, -1),
    mask.transpose(2, 0, 1).reshape(256, -1),
  ):
    related = np.corrcoef(rows) - np.eye(len(rows))
    # Of n independent entries the correlation has a spread of n^-1/2.
    assert np.abs(related).max() < 5.5 / rows.shape[1] ** 0.5


def test_every_bit_is_set_half_the_time():
  bits = np.asarray(hashed_bits(jax.random.key(5), (500, 200)))
  for bit in range(32):
    assert abs(((bits >> bit) & 1).mean() - 0.5) < 0.01
