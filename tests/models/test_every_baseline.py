"""What holds for every model of the table."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.config import default_config
from mmgrec_jax.config.defaults import EMBEDDING
from mmgrec_jax.models import settings
from mmgrec_jax.models.collaborative import (
  embed_everyone,
  normalise,
  prepare,
)
from mmgrec_jax.models.table import MODELS, build_model, objective_of
from mmgrec_jax.training.collaborative import collaborative_task

# And MMGRec's own vectors.
EVERY = pytest.mark.parametrize("system", (*MODELS, "mmgrec"))


def small(system, **changes):
  config = default_config(system, EMBEDDING)
  config.width = 8
  config.model.update(batch_size=8, **changes)
  return config


def vectors(model, inputs, params):
  everyone = jax.jit(functools.partial(embed_everyone, model))
  return map(np.asarray, everyone(params, inputs))


def start(model, inputs):
  # Compiled as a whole: one by one, operations take ten times as long.
  init = jax.jit(
    lambda inputs: model.init(
      jax.random.key(0), inputs, jnp.arange(7), train=False
    )
  )
  return init(inputs)["params"]


def test_the_table_and_the_settings_name_the_same_models():
  assert tuple(MODELS) == tuple(settings.MODELS)


@EVERY
def test_cold_items_and_users_have_finite_scores_and_gradients(
  system, oracle, make_inputs
):
  tiny = oracle("tiny_graph")
  user, item = tiny["edges"].T
  features = {m: tiny[f"{m}_feat"] for m in "vat"}
  inputs = make_inputs(user[user != 3], item[user != 3], 7, 9, features)
  model = build_model(small(system))
  inputs = prepare(model, inputs)
  params = start(model, inputs)
  for h in vectors(model, inputs, params):
    assert np.isfinite(h).all()

  def total(params):
    h_user, h_item = embed_everyone(model, params, inputs)
    return (h_user @ h_item.T).sum()

  gradient = jax.tree.leaves(jax.jit(jax.grad(total))(params))
  assert all(np.isfinite(g).all() for g in gradient)


@EVERY
@pytest.mark.parametrize("modalities", ["", "t", "va", "vat"])
def test_any_set_of_modalities_will_do(system, modalities, tiny_inputs):
  model = build_model(small(system))
  inputs = prepare(model, tiny_inputs(modalities))
  h_user, h_item = vectors(model, inputs, start(model, inputs))
  assert h_user.shape[0] == 7 and h_item.shape[0] == 9
  assert h_user.shape[1] == h_item.shape[1]


@EVERY
def test_two_steps_on_four_devices_equal_one(
  system, tiny_inputs, train, request
):
  """With each model's own dropout, and a batch that 4 does not divide."""
  config = small(system)
  config.model.batch_size = 7

  def run():
    model = build_model(config)
    inputs = prepare(model, tiny_inputs("vat"))
    task = collaborative_task(
      system, model, inputs, config.model, lambda params: 0.0,
      jax.random.key(0), objective_of(config),
    )  # fmt: skip
    state, metrics = train(task, 2)
    return state.params, metrics

  four, four_metrics = run()
  request.getfixturevalue("one_device")
  one, one_metrics = run()
  close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4)
  jax.tree.map(close, four, one)
  jax.tree.map(close, four_metrics, one_metrics)


@EVERY
def test_steps_lower_for_tpu_and_cuda(system, tiny_inputs, lower_steps):
  config = small(system)
  model = build_model(config)
  inputs = prepare(model, tiny_inputs("vat", form="segment"))
  task = collaborative_task(
    system, model, inputs, config.model, lambda params: 0.0,
    jax.random.key(0), objective_of(config),
  )  # fmt: skip
  assert "all_reduce" in lower_steps(task, task.init())


def test_rows_without_features_take_no_part_in_the_gradient():
  x = jnp.array([[3.0, 4.0], [0.0, 0.0], [1e-6, 0.0]])
  np.testing.assert_allclose(normalise(x), [[0.6, 0.8], [0, 0], [1, 0]])
  gradient = jax.grad(lambda x: normalise(x)[:, 0].sum())(x)
  np.testing.assert_allclose(
    gradient, [[0.128, -0.096], [0, 0], [0, 0]], rtol=1e-5, atol=1e-6
  )
  assert (gradient[1] == 0).all()
