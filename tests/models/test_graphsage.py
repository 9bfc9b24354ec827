import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.models.collaborative import embed_everyone
from mmgrec_jax.models.graphsage import GraphSAGE


def layers(found, kind):
  weight = lambda name: found[f"{kind}/{name}.weight"].T
  return {
    f"layer_{k}": {
      "W1": {
        "kernel": weight(f"conv{k}.lin_r"),
        "bias": found[f"{kind}/conv{k}.lin_l.bias"],
      },
      "W2": {"kernel": weight(f"conv{k}.lin_l")},
    }
    for k in (1, 2)
  }


def with_ids(found, kind):
  x = found[f"{kind}/x"]
  return {"user": x[:7], "item": x[7:], **layers(found, kind)}


def with_features(found, kind):
  """MMGRec's encoder: v, a and t side by side times one matrix."""
  v, a, t = np.split(found[f"{kind}/fuse.weight"].T, [5, 9])
  fuse = {
    "map_v": {"kernel": v},
    "map_a": {"kernel": a},
    "map_t": {"kernel": t},
  }
  return {"user": found[f"{kind}/user"], **fuse, **layers(found, kind)}


CASES = {
  "graphsage": ("id", with_ids),
  "graphsage_mmgrec_encoder": ("features", with_features),
}


@pytest.mark.parametrize("name", CASES)
def test_vectors_loss_and_gradients_equal_the_oracle(
  name, agree, oracle, tiny_inputs
):
  found, (item_input, tree) = oracle(name), CASES[name]
  model = GraphSAGE(width=6, hidden=8, item_input=item_input)
  inputs = tiny_inputs("vat")
  agree(
    model, inputs, tree(found, "param"), found["loss"], tree(found, "grad"),
    l2=0.0,
  )  # fmt: skip
  params = jax.tree.map(jnp.float32, tree(found, "param"))
  out = np.concatenate(embed_everyone(model, params, inputs))
  np.testing.assert_allclose(out, found["out"], rtol=1e-5, atol=1e-6)


def start(model, inputs):
  return model.init(jax.random.key(0), inputs, jnp.arange(7), train=False)[
    "params"
  ]


def test_renumbered_users_and_items_have_the_same_vectors(
  rng, oracle, make_inputs
):
  user, item = oracle("tiny_graph")["edges"].T
  of_user, of_item = rng.permutation(7), rng.permutation(9)
  old, new = (
    make_inputs(user, item, 7, 9),
    make_inputs(of_user[user], of_item[item], 7, 9),
  )
  model = GraphSAGE(width=6, hidden=8)
  params = start(model, old)
  moved = {
    **params,
    "user": params["user"][np.argsort(of_user)],
    "item": params["item"][np.argsort(of_item)],
  }
  before, after = (
    embed_everyone(model, p, x) for p, x in ((params, old), (moved, new))
  )
  np.testing.assert_allclose(after[0][of_user], before[0], atol=1e-6)
  np.testing.assert_allclose(after[1][of_item], before[1], atol=1e-6)


def test_a_node_without_neighbours_sees_only_itself(oracle, tiny_inputs):
  found = oracle("graphsage")
  isolated = 7 + 8
  params = jax.tree.map(jnp.float32, with_ids(found, "param"))
  model = GraphSAGE(width=6, hidden=8)
  _, h_item = embed_everyone(model, params, tiny_inputs())
  h = found["param/x"][isolated]
  for layer, slope in zip(("layer_1", "layer_2"), (0.01, 1), strict=True):
    own = params[layer]["W1"]
    h = h @ own["kernel"] + own["bias"]
    h = np.where(h > 0, h, slope * h)
  np.testing.assert_allclose(h_item[8], h, rtol=1e-5)


def test_a_modality_may_have_any_name(tiny_inputs):
  inputs = tiny_inputs("v")
  named = dict.fromkeys(("item", "user", "layer_1"), inputs.features["v"])
  inputs = inputs.replace(features=named)
  names = start(GraphSAGE(width=6, item_input="both"), inputs).keys()
  assert {"item", "user", "map_item", "map_user", "map_layer_1"} <= names


def test_what_goes_in_for_items_is_a_choice(tiny_inputs):
  names = {
    item_input: set(
      start(GraphSAGE(width=6, item_input=item_input), tiny_inputs("vt"))
    )
    for item_input in ("id", "features", "both")
  }
  layers = {"user", "layer_1", "layer_2"}
  assert names["id"] == layers | {"item"}
  assert names["features"] == layers | {"map_v", "map_t"}
  assert names["both"] == layers | {"item", "map_v", "map_t"}


@pytest.mark.parametrize("which", ["dropout", "output_dropout"])
def test_dropout_is_for_training_only(which, tiny_inputs):
  inputs = tiny_inputs()
  plain, dropping = GraphSAGE(width=6), GraphSAGE(width=6, **{which: 0.5})
  params = start(plain, inputs)

  def vectors(model, train):
    return model.apply(
      {"params": params}, inputs, jnp.arange(7), train=train,
      rngs={"dropout": jax.random.key(1)},
    ).item_IxD  # fmt: skip

  np.testing.assert_array_equal(vectors(dropping, False), vectors(plain, True))
  assert (vectors(dropping, True) != vectors(plain, True)).any()
