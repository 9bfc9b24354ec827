from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.config import ConfigDict
from mmgrec_jax.models import collaborative as cf
from mmgrec_jax.models import invrl

# The oracle's features are v (5), a (4), t (6); a model's are by name: a, t, v.
BY_NAME = np.r_[5:15, 0:5]


def settings(l2=0.0):
  w = {"w1": 1.0, "w2": 1.0, "w3": 1.0, "w4": 1.0}
  return ConfigDict({"l2": l2, "weights": w})


def close(ours, theirs):
  theirs = np.asarray(theirs)
  scale = np.abs(theirs).max()
  np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * scale)


@pytest.fixture
def normed_inputs(oracle, make_inputs):
  tiny, found = oracle("tiny_graph"), oracle("ultragcn")
  features = {m: found[f"{m}_norm"] for m in "vat"}
  return make_inputs(*tiny["edges"].T, 7, 9, features)


@pytest.fixture
def triples(tiny_triples, oracle):
  negatives = oracle("ultragcn")["neg_items"]
  return tiny_triples.replace(negative_BxJ=jnp.asarray(negatives, jnp.int32))


def parameters(U, V, W):
  """Of linear weights (out, in); the oracles have no bias."""
  params = {"user": U, "item": V, "linear": W.T[BY_NAME], "bias": np.zeros(8)}
  return {name: jnp.asarray(a, jnp.float32) for name, a in params.items()}


def test_ultragcn_loss_and_gradients_equal_the_oracle(
  oracle, normed_inputs, triples
):
  found = oracle("ultragcn")
  names = ("U", "V", "MLP.weight")
  params = parameters(*(found[f"param/{n}"] for n in names))
  gradient = parameters(*(found[f"grad/{n}"] for n in names))
  # wd (|U|^2 + wdi |V|^2) + wd_proj |W|^2 once, as a share of each of 12.
  wd, wd_proj = float(found["wd_emb"]), float(found["wd_proj"])
  model = invrl.InvRL(8, float(found["wdi"]), l2_linear=wd_proj / wd)

  def loss(params):
    embedded: Any = model.apply(
      {"params": params}, normed_inputs, triples.user_B, train=True
    )
    return invrl.ultragcn_objective(
      embedded, normed_inputs, triples, settings(2 * wd / 12)
    )[0]

  ours, our_gradient = jax.value_and_grad(loss)(params)
  close(ours, found["loss"])
  for name in ("user", "item", "linear"):
    close(our_gradient[name], gradient[name])


@pytest.fixture
def by_environment(oracle, normed_inputs, triples):
  """(W, mu) of each environment -> losses of the oracle's environments."""
  found = oracle("invrl_backend")
  frozen = parameters(found["U"], found["V"], found["W"])
  copies = jax.tree.map(lambda a: jnp.stack([a] * 3), triples)
  of_K = found["env"] == np.arange(3)[:, None]
  copies = copies.replace(real_B=jnp.asarray(of_K))

  def losses(W_KxFxD, mu_KxF, triples=copies):
    one = lambda W, z, t: invrl.environment_loss(
      invrl.InvRL(8), frozen, normed_inputs, settings(), W, z,
      frozen["bias"], t,
    )  # fmt: skip
    return jax.vmap(one)(W_KxFxD, invrl.gate(mu_KxF), triples)

  return losses, frozen["linear"], copies


def test_invariance_loss_and_its_second_order_gradient_equal_the_oracle(
  oracle, by_environment
):
  found = oracle("invrl_backend")
  losses, W, _ = by_environment
  mu = jnp.asarray(found["mu"][BY_NAME], jnp.float32)
  # Its L2 on U, V and W, once an environment.
  l2 = 1e-3 * ((found["U"] ** 2).sum() + 2 * (found["V"] ** 2).sum())
  l2 += 1e-2 * (found["W"] ** 2).sum()

  def total(W, mu):
    return invrl.invariance_loss(
      losses, W, mu, jnp.ones(3, bool), found["alpha"], found["lam"]
    )

  (value, parts), (to_W, to_mu) = jax.value_and_grad(
    total, (0, 1), has_aux=True
  )(W, mu)
  close(parts["loss"] + l2, found["loss_avg"])
  close(parts["penalty"], found["penalty"])
  close(value + l2, found["total"])
  close(to_W + 2e-2 * W, found["grad_W"].T[BY_NAME])
  close(to_mu, found["grad_mu"][BY_NAME])


def test_losses_and_gradients_of_each_environment_equal_the_oracle(
  oracle, by_environment
):
  found = oracle("invrl_backend")
  losses, W, _ = by_environment
  mu = jnp.asarray(found["mu"][BY_NAME], jnp.float32)
  l2 = found["env_losses"].mean() - found["loss_avg"]
  assert abs(l2) < 1e-12  # both have it
  copies = jnp.stack([W] * 3), jnp.stack([mu] * 3)
  gradient = jax.grad(lambda W: losses(W, copies[1]).sum())(copies[0])
  theirs = found["env_grads"].transpose(0, 2, 1)[:, BY_NAME]
  close(gradient + 2e-2 * W[None], theirs)
  close(np.diff(losses(*copies)), np.diff(found["env_losses"]))


def test_environments_that_are_the_same_have_no_penalty(by_environment):
  losses, W, triples = by_environment
  all_real = triples.replace(real_B=jnp.ones((3, 12), bool))
  mu, real = jnp.zeros(15), jnp.ones(3, bool)
  penalty = lambda triples: float(
    invrl.invariance_loss(
      lambda W, mu: losses(W, mu, triples), W, mu, real, 1.0, 0.1
    )[1]["penalty"]
  )
  assert penalty(triples) > 1e-3
  assert penalty(all_real) < 1e-12


def test_the_penalty_closes_features_whose_gradient_differs_alone(rng):
  g_KxFxD = np.repeat(rng.normal(size=(1, 4, 3)), 5, axis=0)
  g_KxFxD[:, 2] += rng.normal(size=(5, 3))
  to_mu = jax.grad(invrl.invariance_penalty, 1)(
    jnp.asarray(g_KxFxD), jnp.zeros(4), jnp.ones(5, bool)
  )
  np.testing.assert_allclose(to_mu[jnp.array([0, 1, 3])], 0, atol=1e-9)
  assert to_mu[2] > 0.1


def test_an_environment_without_interactions_counts_for_nothing(rng):
  g_KxFxD = jnp.asarray(rng.normal(size=(3, 4, 2)))
  mu = jnp.zeros(4)
  two = invrl.invariance_penalty(g_KxFxD[:2], mu, jnp.ones(2, bool))
  real = jnp.array([True, True, False])
  three = invrl.invariance_penalty(g_KxFxD.at[2].set(9.0), mu, real)
  np.testing.assert_allclose(three, two, rtol=1e-6)


def test_a_gate_on_W_is_a_gate_on_the_features(
  rng, oracle, normed_inputs, triples
):
  found = oracle("ultragcn")
  params = parameters(*(found[f"param/{n}"] for n in ("U", "V", "MLP.weight")))
  gate_F = jnp.asarray(rng.uniform(size=15), jnp.float32)
  model, W = invrl.InvRL(8), params["linear"]
  gates = invrl.by_modality(gate_F, normed_inputs.features)
  masked = normed_inputs.replace(
    features={m: x * gates[m][None] for m, x in normed_inputs.features.items()}
  )
  losses = [
    invrl.environment_loss(
      model, params, inputs, settings(), W, gate, params["bias"], triples
    )
    for inputs, gate in ((normed_inputs, gate_F), (masked, jnp.ones(15)))
  ]
  np.testing.assert_allclose(*losses, rtol=1e-6)


def test_without_features_it_is_ultragcn(tiny_inputs, triples):
  inputs, model = tiny_inputs(), invrl.InvRL(8)
  users = triples.user_B
  variables = model.init(jax.random.key(0), inputs, users, train=False)
  params: Any = variables["params"]
  assert {k: v.shape for k, v in params.items()} == {
    "user": (7, 8),
    "item": (9, 8),
  }
  out = model.apply(variables, inputs, users, train=False)
  assert isinstance(out, cf.Embedded)
  np.testing.assert_array_equal(out.item_IxD, params["item"])
  np.testing.assert_array_equal(out.user_BxD, params["user"][users])
