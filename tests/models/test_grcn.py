import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.edges import edge_sum
from mmgrec_jax.graph import segment_softmax
from mmgrec_jax.models import collaborative as cf
from mmgrec_jax.models.grcn import GRCN


def from_oracle(found, kind):
  """Our parameters or gradients by the oracle's names."""
  params = {
    "id": found[f"{kind}/id_gcn.id_embedding"],
    "confidence": found[f"{kind}/model_specific_conf"][:, ::-1],  # t, v
  }
  for m in "tv":
    params[f"preference_{m}"] = found[f"{kind}/{m}_gcn.preference"]
    params[f"map_{m}"] = {
      "kernel": found[f"{kind}/{m}_gcn.MLP.weight"].T,
      "bias": found[f"{kind}/{m}_gcn.MLP.bias"],
    }
  return params


def penalty(params, triples):
  """MMRec's: means over elements, the whole visual table besides."""
  square = {k: params[k] ** 2 for k in ("id", "preference_t", "preference_v")}
  user = triples.user_B
  items = (triples.positive_B, triples.negative_BxJ[:, 0])
  return (
    square["id"][user].mean()
    + sum(square["id"][7 + i].mean() for i in items) / 2
    + square["preference_t"][user].mean()
    + square["preference_v"][user].mean()
    + square["preference_v"].mean()
  )


def embed(model, params, inputs):
  """Vectors of users and items, [U, C] and [I, C]."""
  vectors = jax.jit(functools.partial(cf.embed_everyone, model))
  return map(np.asarray, vectors(params, inputs))


def content(model, params, inputs):
  """Users' content vectors [U, M D]."""
  return list(embed(model, params, inputs))[0][:, 8:]


@pytest.fixture
def start(oracle):
  """The oracle's parameters."""
  params = from_oracle(oracle("grcn"), "param")
  return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)


def test_loss_and_gradients_equal_the_oracle(
  oracle, tiny_inputs, tiny_triples, start
):
  found, inputs = oracle("grcn"), tiny_inputs("vt")
  model = GRCN(width=8, routing_target="item")

  def loss(params):
    out = model.apply(
      {"params": params}, inputs, tiny_triples.user_B, train=False
    )
    settings = type("Settings", (), {"l2": 0.0, "loss": "bpr"})
    bpr, _ = cf.ranking_objective(out, inputs, tiny_triples, settings)
    weight = float(found["reg_weight"])
    return bpr / 12 + weight * penalty(params, tiny_triples)

  ours, gradient = jax.jit(jax.value_and_grad(loss))(start)
  np.testing.assert_allclose(ours, found["loss"][0], rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max()
    ),
    gradient,
    from_oracle(found, "grad"),
  )


def test_vectors_equal_the_oracle(oracle, tiny_inputs, start):
  found = oracle("grcn")
  model = GRCN(width=8, routing_target="item")
  vectors = embed(model, start, tiny_inputs("vt"))
  ids, v, t = np.split(found["rep"], 3, axis=1)
  expected = np.concatenate([ids, t, v], axis=1)
  ours = np.concatenate(list(vectors))
  np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_routing_to_items_changes_nothing_and_to_users_does(tiny_inputs, start):
  inputs = tiny_inputs("vt")
  made = lambda **fields: content(GRCN(width=8, **fields), start, inputs)
  public = [made(routing_target="item", routing=n) for n in (1, 3)]
  np.testing.assert_array_equal(*public)
  ours = [made(routing=n) for n in (1, 3)]
  assert np.abs(ours[0] - public[0]).max() > 0.01
  assert np.abs(ours[0] - ours[1]).max() > 0.01


def test_routing_moves_a_user_to_the_content_of_their_items(tiny_inputs, start):
  """With one round p is p + softmax(F p)^T F, of unit length."""
  inputs = tiny_inputs("v")
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  start = start | {"confidence": start["confidence"][:, 1:]}
  kernel, bias = (np.asarray(start["map_v"][x]) for x in ("kernel", "bias"))
  f = np.asarray(inputs.features["v"]) @ kernel + bias
  f = unit(np.where(f > 0, f, 0.01 * f))
  p = unit(np.asarray(start["preference_v"]))

  def attend(p, f):
    e = np.exp(f @ p)
    return p + e @ f / e.sum()

  ours = content(GRCN(width=8, routing=1), start, inputs)
  user, item = inputs.interactions.user_E, inputs.interactions.item_E
  for u in range(7):
    own = f[np.asarray(item)[np.asarray(user) == u]]
    expected = attend(unit(attend(p[u], own)), own)
    np.testing.assert_allclose(ours[u], expected, rtol=1e-4, atol=1e-6)


def test_weights_of_the_edges_that_arrive_sum_to_one(rng, tiny_inputs):
  edges = tiny_inputs().interactions
  logits_ExM = jnp.asarray(rng.normal(size=(21, 2)), jnp.float32)
  alpha_ExM = segment_softmax(logits_ExM, edges.item_E, 9)
  ones = edge_sum(alpha_ExM, jnp.ones((7, 2, 1)), edges.user_E, edges.item_E, 9)
  has_users = np.isin(np.arange(9), edges.item_E)
  np.testing.assert_allclose(ones[has_users], 1.0, rtol=1e-6)
  assert (np.asarray(ones)[~has_users] == 0).all()


def test_hard_pruning_drops_what_soft_keeps(tiny_inputs, start):
  """No confidence at all: every edge is dropped, ids stay as they are."""
  inputs = tiny_inputs("vt")
  start = start | {"confidence": -jnp.ones((16, 2))}
  ids = lambda pruning: np.concatenate(
    list(embed(GRCN(width=8, pruning=pruning), start, inputs))
  )[:, :8]
  unit = np.asarray(cf.normalise(start["id"]))
  np.testing.assert_allclose(ids("hard"), unit, rtol=1e-6)
  assert np.abs(ids("soft") - unit).max() > 0.1
