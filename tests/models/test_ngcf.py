import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.models.collaborative import embed_everyone
from mmgrec_jax.models.ngcf import NGCF

SIZE = dict(width=8, layers=2, dropout=0.0)
CASES = {
  "ngcf_official": NGCF(laplacian="row", activation="terms", **SIZE),
  "ngcf_recbole": NGCF(**SIZE),  # the paper's
}


def tree(found, kind):
  parts = [found[f"{kind}/{side}_embedding"] for side in ("user", "item")]
  out = {"embedding": np.concatenate(parts)}
  for k in range(2):
    for ours, theirs in (("W1", "gc"), ("W2", "bi")):
      out[f"{ours}_{k + 1}"] = {
        "kernel": found[f"{kind}/W_{theirs}_{k}"],
        "bias": found[f"{kind}/b_{theirs}_{k}"][0],
      }
  return out


@pytest.mark.parametrize("name", CASES)
def test_vectors_loss_and_gradients_equal_the_oracle(
  name, agree, oracle, tiny_inputs
):
  found, model, inputs = oracle(name), CASES[name], tiny_inputs()
  agree(
    model, inputs, tree(found, "param"), found["loss"], tree(found, "grad"),
    l2=float(found["reg_weight"]),
  )  # fmt: skip
  params = jax.tree.map(jnp.float32, tree(found, "param"))
  h_user, h_item = embed_everyone(model, params, inputs)
  np.testing.assert_allclose(h_user, found["user_out"], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(h_item, found["item_out"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_the_laplacian_equals_the_oracles_matrix(name, oracle, tiny_inputs):
  matrix, _ = CASES[name].laplacian_times(tiny_inputs().graph, jnp.eye(16))
  np.testing.assert_allclose(matrix, oracle(name)["adj_dense"], atol=1e-6)


def test_rows_of_the_codes_laplacian_sum_to_one(tiny_inputs):
  ones = jnp.ones((16, 1))
  near, _ = CASES["ngcf_official"].laplacian_times(tiny_inputs().graph, ones)
  np.testing.assert_allclose(near, 1, rtol=1e-6)


@pytest.mark.parametrize("model", CASES.values(), ids=CASES)
def test_layers_lie_side_by_side_with_norm_one(model, tiny_inputs):
  inputs = tiny_inputs()
  params = model.init(jax.random.key(0), inputs, jnp.arange(7), train=False)[
    "params"
  ]
  h = np.concatenate(embed_everyone(model, params, inputs))
  assert h.shape == (16, 3 * 8)
  np.testing.assert_array_equal(h[:, :8], params["embedding"])
  for part in (h[:, 8:16], h[:, 16:]):
    np.testing.assert_allclose(np.linalg.norm(part, axis=1), 1, rtol=1e-5)


def test_messages_are_dropped_in_training_only(tiny_inputs):
  inputs, model = tiny_inputs(), NGCF(width=8, layers=1, dropout=0.5)
  variables = model.init(jax.random.key(0), inputs, jnp.arange(7), train=False)
  keys = {"dropout": jax.random.key(1)}
  vectors = lambda train: (
    model.apply(
      variables, inputs, jnp.arange(7), train=train, rngs=keys
    ).item_IxD
  )
  kept, dropped = vectors(False), vectors(True)
  np.testing.assert_array_equal(kept[:, :8], dropped[:, :8])
  zeros = lambda h: (h[:, 8:] == 0).mean()
  assert zeros(kept) == 0 and 0.2 < zeros(dropped) < 0.8
