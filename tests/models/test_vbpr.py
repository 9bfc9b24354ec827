import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from mmgrec_jax.models import collaborative as cf
from mmgrec_jax.models.mf import MF
from mmgrec_jax.models.vbpr import VBPR


def from_paper(found, prefix=""):
  """Our parameters by an oracle's names."""
  read = lambda name: jnp.asarray(found[prefix + name], jnp.float32)
  return {
    "gamma_user": read("gamma_u"),
    "gamma_item": read("gamma_i"),
    "theta": read("theta_u"),
    "E": read("E").T,
    "beta": read("beta_i"),
    "beta_content": read("beta_content"),
  }


def from_mmrec(found, kind):
  """MMRec's parameters or gradients; its bias weighs a feature of ones."""
  user = found[f"{kind}/u_embedding"]
  weight, bias = (found[f"{kind}/item_linear.{x}"] for x in ("weight", "bias"))
  return {
    "gamma_user": user[:, :8],
    "gamma_item": found[f"{kind}/i_embedding"],
    "theta": user[:, 8:],
    "E": np.vstack([weight.T, bias]),
  }


def with_ones(inputs):
  features = {**inputs.features, "z": jnp.ones((9, 1))}
  return dataclasses.replace(inputs, features=features)


def test_scores_equal_the_paper_oracle(oracle, tiny_inputs):
  found = oracle("vbpr_paper")
  model = VBPR(width=4, content_width=3)
  h_user, h_item = cf.embed_everyone(model, from_paper(found), tiny_inputs("v"))
  np.testing.assert_allclose(h_user @ h_item.T, found["scores"], rtol=1e-5)


def test_a_step_of_descent_equals_the_paper_oracle(oracle, tiny_inputs):
  """But for the item bias, which the oracle's public code never trains."""
  found, inputs = oracle("vbpr_paper"), tiny_inputs("v")
  u, i, j = (int(found[f"step_{x}"]) for x in ("user", "pos", "neg"))
  params, after = from_paper(found), from_paper(found, "after_")

  def loss(params):
    out = VBPR(width=4, content_width=3).apply(
      {"params": params}, inputs, jnp.array([u]), train=False
    )
    triples = cf.Triples(
      jnp.array([u]), jnp.array([i]), jnp.array([[j]]), jnp.array([True])
    )
    settings = type("Settings", (), {"l2": float(found["lam"]), "loss": "bpr"})
    return cf.ranking_objective(out, inputs, triples, settings)[0]

  gradient = jax.jit(jax.grad(loss))(params)
  stepped = jax.tree.map(
    lambda a, g: a - float(found["lr"]) * g, params, gradient
  )
  moved = np.flatnonzero(stepped["beta"] != params["beta"])
  assert sorted(moved) == sorted([i, j])
  del stepped["beta"], after["beta"]
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  jax.tree.map(close, stepped, after)


def test_loss_and_gradients_equal_the_mmrec_oracle(
  oracle, tiny_inputs, tiny_triples
):
  """Without beta_i and beta', by MMRec's penalty: norms of batch vectors."""
  found, inputs = oracle("vbpr_mmrec"), with_ones(tiny_inputs("tv"))
  biases = {"beta": jnp.zeros(9), "beta_content": jnp.zeros(12)}

  def loss(params):
    out = VBPR(width=8, content_width=8).apply(
      {"params": params | biases}, inputs, tiny_triples.user_B, train=False
    )
    user, item = out.user_BxD[:, :-1], out.item_IxD[:, :-1]
    positive, negative = (
      item[tiny_triples.positive_B],
      item[tiny_triples.negative_BxJ[:, 0]],
    )
    norms = sum(jnp.linalg.norm(h) for h in (user, positive, negative)) / 12
    bpr = cf.bpr_loss(user, positive, negative).mean()
    return bpr + float(found["reg_weight"]) * norms, (user, item)

  params, expected = (from_mmrec(found, kind) for kind in ("param", "grad"))
  params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)
  (ours, (_, item)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(
    params
  )
  np.testing.assert_allclose(ours, found["loss"][0], rtol=1e-5)
  np.testing.assert_allclose(item, found["item_out"], rtol=1e-5, atol=1e-6)
  close = lambda a, b: np.testing.assert_allclose(
    a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max()
  )
  jax.tree.map(close, gradient, expected)


def test_without_content_and_biases_it_is_matrix_factorisation(
  oracle, tiny_inputs
):
  found, inputs = oracle("vbpr_paper"), tiny_inputs("v")
  params = from_paper(found)
  for name in ("theta", "beta", "beta_content"):
    params[name] = jnp.zeros_like(params[name])
  ours = cf.embed_everyone(VBPR(width=4, content_width=3), params, inputs)
  table = {"user": params["gamma_user"], "item": params["gamma_item"]}
  mf = cf.embed_everyone(MF(width=4), table, inputs)
  np.testing.assert_allclose(ours[0] @ ours[1].T, mf[0] @ mf[1].T, rtol=1e-6)
