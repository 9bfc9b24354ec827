import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.data import sampling
from mmgrec_jax.graph import layer_means
from mmgrec_jax.models import lightgt
from mmgrec_jax.models.lightgcn import LightGCN
from mmgrec_jax.models.lightgt import LightGT

HISTORY = 4


@pytest.fixture
def found(oracle):
  return oracle("lightgt")


def model_of(found, **changes):
  """As the oracle has it, but for `changes`."""
  fields = dict(
    width=8,
    layers=int(found["n_transformer_layers"]),
    history_length=HISTORY,
    id_share=float(found["score_weight"]),
    temperature=100.0,
  )
  return LightGT(**{**fields, **changes})


def tree(found, kind):
  get = lambda name: found[f"{kind}/{name}"]

  def dense(name):
    return {"kernel": get(f"{name}.weight").T, "bias": get(f"{name}.bias")}

  def encoder(name):
    layers = [f"{name}.layers.{n}" for n in range(2)]
    linear = lambda part, what: np.array(
      [dense(f"{layer}.self_attn.0.{part}_proj")[what] for layer in layers]
    )
    # Of one head.
    stack = lambda what: np.array(
      [linear(f"{part}_in", what)[:, None] for part in "qkv"]
    )
    norm = lambda what: np.array([get(f"{at}.norm1.{what}") for at in layers])
    return {
      "kernel": stack("kernel"),
      "bias": stack("bias"),
      "out_kernel": linear("out", "kernel"),
      "out_bias": linear("out", "bias"),
      "norm_scale": norm("weight"),
      "norm_bias": norm("bias"),
    }

  out = {
    "user": get("lightgcn.user_emb.weight"),
    "item": get("lightgcn.item_emb.weight"),
    "user_token": get("user_exp"),
  }
  for m in "atv":
    out |= {
      f"{m}_linear": dense(f"{m}_linear"),
      f"{m}_position": dense(f"{m}_mlp"),
      f"{m}_dense": dense(f"{m}_dense"),
      f"{m}_encoder": encoder(f"{m}_encoder"),
    }
  return out


def as_float32(params):
  return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)


def embed(model, params, inputs, user_B=None):
  user_B = jnp.arange(7) if user_B is None else user_B
  run = lambda p: model.apply({"params": p}, inputs, user_B, train=False)
  return jax.jit(run)(params)


@pytest.fixture
def inputs(found, tiny_inputs, monkeypatch):
  """The oracle's: rows in order, and 1e-5 added to the degrees."""
  monkeypatch.setattr(
    sampling, "shuffle_rows", lambda key, data: jnp.arange(len(data.item_E))
  )
  graph = jnp.asarray(found["graph_dense"], jnp.float32)
  over_graph = functools.partial(layer_means, step=lambda _, h: graph @ h)
  monkeypatch.setattr(lightgt, "layer_means", over_graph)
  return tiny_inputs("vat")


def test_loss_and_gradients_equal_the_oracle(agree, found, inputs):
  agree(
    model_of(found), inputs, tree(found, "param"), found["loss"],
    tree(found, "grad"), l2=float(found["reg_weight"]),
  )  # fmt: skip


def test_vectors_and_scores_equal_the_oracle(found, inputs, tiny_triples):
  params = as_float32(tree(found, "param"))
  out = embed(model_of(found), params, inputs, tiny_triples.user_B)
  scores = out.user_BxD @ out.item_IxD.T
  np.testing.assert_allclose(scores, found["score_matrix"], atol=1e-5)
  by_part = lambda h, share: [
    part / (share if i == 0 else 1 - share) ** 0.5
    for i, part in enumerate(np.split(np.asarray(h), 4, axis=1))
  ]
  share = float(found["score_weight"])
  _, a, t, v = by_part(out.user_BxD, share)
  id_, *x = by_part(out.item_IxD, share)
  np.testing.assert_allclose(id_, found["item_emb"], atol=1e-5)
  for m, z_BxD, x_IxD in zip("atv", (a, t, v), x, strict=True):
    np.testing.assert_allclose(z_BxD, found[f"{m}_out"], atol=1e-5)
    np.testing.assert_allclose(x_IxD, found[m], atol=1e-5)


def test_heads_add_up(found, inputs):
  """Two heads that are one head's half each, in what they read, are that head;
  a head that looks elsewhere changes the vectors."""
  one = as_float32(tree(found, "param"))

  def two_heads(look_elsewhere):
    params = dict(one)
    for m in "atv":
      encoder = dict(one[f"{m}_encoder"])
      for name in ("kernel", "bias"):
        array = encoder[name].at[2].multiply(0.5)
        array = jnp.concatenate([array, array], axis=2)
        encoder[name] = array.at[0, :, 1].multiply(1 - 3 * look_elsewhere)
      params[f"{m}_encoder"] = encoder
    return embed(model_of(found, heads=2), params, inputs).user_BxD

  expected = embed(model_of(found), one, inputs).user_BxD
  np.testing.assert_allclose(two_heads(0), expected, atol=1e-6)
  assert np.abs(two_heads(1) - expected).max() > 1e-3


def test_with_the_ids_alone_it_scores_as_lightgcn(found, tiny_inputs):
  params = as_float32(tree(found, "param"))
  table = jnp.concatenate([params["user"], params["item"]])
  light = embed(LightGCN(8, 2), {"embedding": table}, tiny_inputs())
  expected = light.user_BxD @ light.item_IxD.T
  for modalities, share in (("vat", 1.0), ("", 0.05)):
    model = model_of(found, id_share=share)
    ours = embed(model, params, tiny_inputs(modalities))
    scores = ours.user_BxD @ ours.item_IxD.T
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_the_order_of_a_history_has_no_effect(found, tiny_inputs, monkeypatch):
  """But what is in it has."""
  inputs = tiny_inputs("vat")
  key, users = jax.random.key(0), jnp.arange(7)
  drawn = sampling.draw_histories(key, inputs.interactions, users, 9)
  model = model_of(found, temperature=1.0, history_length=9)
  params = as_float32(tree(found, "param"))

  def vectors(change):
    history = np.array(drawn)
    for row in history:
      n = (row >= 0).sum()
      row[:n] = change(row[:n])
    monkeypatch.setattr(
      sampling, "draw_histories", lambda *_: jnp.asarray(history)
    )
    return np.asarray(embed(model, params, inputs).user_BxD)

  as_drawn = vectors(lambda own: own)
  backwards = vectors(lambda own: own[::-1])
  np.testing.assert_allclose(backwards, as_drawn, atol=1e-5)
  others = vectors(lambda own: (own + 1) % 9)
  assert (np.abs(others - as_drawn).max(axis=1) > 1e-4).all()


def test_chunks_of_users_change_nothing(found, tiny_inputs, monkeypatch):
  params = as_float32(tree(found, "param"))
  whole = embed(model_of(found), params, tiny_inputs("vat"))
  monkeypatch.setattr(lightgt, "CHUNK", 3)
  parts = embed(model_of(found), params, tiny_inputs("vat"))
  np.testing.assert_allclose(whole.user_BxD, parts.user_BxD, atol=1e-6)


@pytest.mark.parametrize("leak", [False, True])
def test_the_target_is_in_its_own_history_only_by_setting(
  found, tiny_inputs, leak
):
  """Seen by the gradient: through which items' features do users go?"""
  everyone = tiny_inputs("v")
  data = everyone.interactions
  model = model_of(found, target_in_history=leak, history_length=9, dropout=0.0)
  params = as_float32(tree(found, "param"))
  edge_E = jnp.arange(len(data.item_E))

  def of_users(x_IxF):
    inputs = everyone.replace(features={"v": x_IxF}, edge_B=edge_E)
    out = model.apply(
      {"params": params}, inputs, data.user_E, train=True,
      rngs={"dropout": jax.random.key(1)},
    )  # fmt: skip
    return out.user_BxD[:, 8:].sum(axis=1)

  slopes_ExIxF = jax.jit(jax.jacrev(of_users))(everyone.features["v"])
  read_ExI = np.abs(np.asarray(slopes_ExIxF)).max(axis=2) > 0
  of_item = np.eye(9, dtype=bool)[data.item_E]
  own_ExI = np.equal.outer(data.user_E, data.user_E) @ of_item
  expected = own_ExI if leak else own_ExI & ~of_item
  np.testing.assert_array_equal(read_ExI, expected)


def test_attention_drops_out_in_training(found, tiny_inputs):
  model = model_of(found, dropout=0.5, history_length=9)
  params = as_float32(tree(found, "param"))
  inputs = tiny_inputs("v")
  # Each user's first interaction is the one that is learned: the same history
  # whatever the key, as all of it fits.
  inputs = inputs.replace(edge_B=inputs.interactions.offset[:-1])

  @jax.jit
  def vectors(key):
    return model.apply(
      {"params": params}, inputs, jnp.arange(7), train=True,
      rngs={"dropout": key},
    ).user_BxD  # fmt: skip

  a, b, a_again = (vectors(jax.random.key(k)) for k in (0, 1, 0))
  np.testing.assert_array_equal(a, a_again)
  assert (np.abs(a - b).max(axis=1) > 1e-3).any()
