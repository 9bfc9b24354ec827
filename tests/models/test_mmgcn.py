import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mmgrec_jax.graph import neighbour_mean
from mmgrec_jax.models import collaborative as cf
from mmgrec_jax.models.mmgcn import MMGCN


class MapsVisual(nn.Module):
  """The oracle maps its 5 visual features to 256, which is not wide."""

  train_tables: bool = False

  @nn.compact
  def __call__(self, inputs, user_B, train):
    v = nn.Dense(256, name="map_v")(inputs.features["v"])
    features = {**inputs.features, "v": v}
    inputs = dataclasses.replace(inputs, features=features)
    model = MMGCN(8, latent=256, train_tables=self.train_tables, name="mmgcn")
    return model(inputs, user_B, train)


def from_oracle(found, kind):
  """Our parameters or gradients; the tables' gradients are zero."""

  def dense(name, bias=True):
    weight = {"kernel": found[f"{kind}/{name}.weight"].T}
    return weight | ({"bias": found[f"{kind}/{name}.bias"]} if bias else {})

  tables = {
    "id": found["id_embedding"],
    "preference_v": found["v_preference"],
    "preference_t": found["t_preference"],
  }
  if kind == "grad":
    tables = jax.tree.map(np.zeros_like, tables)
  convolutions = {
    f"{m}_{layer}": {
      "W": {"kernel": found[f"{kind}/{m}_gcn.conv_embed_{layer + 1}.weight"]},
      "U": dense(f"{m}_gcn.linear_layer{layer + 1}"),
      "G": dense(f"{m}_gcn.g_layer{layer + 1}"),
    }
    for m in "vt"
    for layer in range(3)
  }
  return {"map_v": dense("v_gcn.MLP"), "mmgcn": tables | convolutions}


def penalty(found, triples):
  """The public code's, of the tables: a constant, as they are not trained."""
  e, n = found["id_embedding"] ** 2, found["v_preference"] ** 2
  items = [triples.positive_B, triples.negative_BxJ[:, 0]]
  item = np.mean([e[7 + i].mean() for i in map(np.asarray, items)])
  user = e[np.asarray(triples.user_B)].mean()
  return float(found["reg_weight"]) * (user + item + n.mean())


def test_loss_and_gradients_equal_the_oracle(
  agree, oracle, tiny_inputs, tiny_triples
):
  found = oracle("mmgcn")
  agree(
    MapsVisual(), tiny_inputs("vt"), from_oracle(found, "param"),
    found["loss"] - penalty(found, tiny_triples), from_oracle(found, "grad"),
    l2=0.0,
  )  # fmt: skip


def test_vectors_equal_the_oracle(oracle, tiny_inputs):
  found = oracle("mmgcn")
  params = jax.tree.map(
    lambda a: jnp.asarray(a, jnp.float32), from_oracle(found, "param")
  )
  embed = jax.jit(functools.partial(cf.embed_everyone, MapsVisual()))
  vectors = embed(params, tiny_inputs("vt"))
  ours = np.concatenate(vectors)
  np.testing.assert_allclose(ours, found["rep"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("train_tables", [True, False])
def test_tables_are_trained_unless_asked_otherwise(
  train_tables, oracle, tiny_inputs
):
  found, inputs = oracle("mmgcn"), tiny_inputs("vt")
  params = jax.tree.map(
    lambda a: jnp.asarray(a, jnp.float32), from_oracle(found, "param")
  )
  model = MapsVisual(train_tables)

  def total(params):
    h_user, h_item = cf.embed_everyone(model, params, inputs)
    return (h_user @ h_item.T).sum()

  gradient = jax.jit(jax.grad(total))(params)["mmgcn"]
  for name in ("id", "preference_v", "preference_t"):
    assert (np.abs(gradient[name]).max() > 0) == train_tables


def test_only_a_wide_modality_is_mapped_first(tiny_inputs):
  model = MMGCN(width=8, latent=5)
  start = functools.partial(model.init, train=False)
  params = jax.eval_shape(
    start, jax.random.key(0), tiny_inputs("vat"), jnp.arange(7)
  )["params"]
  assert {k for k in params if k.startswith("map")} == {"map_t"}
  width = lambda m: params[f"preference_{m}"].shape[1]
  assert [width(m) for m in "vat"] == [5, 4, 5]


def test_the_mean_of_equal_neighbours_is_what_they_are(tiny_inputs):
  mean = np.asarray(neighbour_mean(tiny_inputs().graph, jnp.full((16, 3), 2.0)))
  has_neighbours = np.ones(16, bool)
  inputs = tiny_inputs().interactions
  has_neighbours[7:] = np.isin(np.arange(9), inputs.item_E)
  assert not has_neighbours.all()
  np.testing.assert_allclose(mean[has_neighbours], 2.0, rtol=1e-6)
  assert (mean[~has_neighbours] == 0).all()
