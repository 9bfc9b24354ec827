import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.graph import propagate
from mmgrec_jax.models.lightgcn import LightGCN
from mmgrec_jax.models.mf import MF

pytestmark = pytest.mark.usefixtures("optimised")


def both(found, kind):
  parts = [found[f"{kind}/embedding_dict.{s}_emb"] for s in ("user", "item")]
  return {"embedding": np.concatenate(parts)}


def test_loss_and_gradients_equal_the_oracle(agree, oracle, tiny_inputs):
  found = oracle("lightgcn_officialloss")
  model = LightGCN(width=8, layers=int(found["n_layers"]))
  agree(
    model, tiny_inputs(), both(found, "param"), found["loss"],
    both(found, "grad"), l2=float(found["reg_weight"]),
  )  # fmt: skip


def test_vectors_equal_the_oracle(oracle, tiny_inputs):
  found = oracle("lightgcn")
  model = LightGCN(width=8, layers=int(found["n_layers"]))
  params = {"embedding": jnp.asarray(both(found, "param")["embedding"], "f4")}
  out = model.apply(
    {"params": params}, tiny_inputs(), jnp.arange(7), train=False
  )
  np.testing.assert_allclose(out.user_BxD, found["user_out"], atol=1e-5)
  np.testing.assert_allclose(out.item_IxD, found["item_out"], atol=1e-5)


def test_propagation_is_symmetric_and_no_longer_than_its_input(
  oracle, tiny_inputs
):
  matrix = np.asarray(propagate(tiny_inputs().graph, jnp.eye(16)))
  np.testing.assert_allclose(matrix, oracle("lightgcn")["adj_dense"], atol=1e-6)
  np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
  assert np.abs(np.linalg.eigvalsh(matrix)).max() < 1 + 1e-6


def test_without_layers_it_is_matrix_factorisation(rng, tiny_inputs):
  inputs, users = tiny_inputs(), jnp.arange(7)
  table = jnp.asarray(rng.normal(size=(16, 8)), jnp.float32)
  light = LightGCN(width=8, layers=0).apply(
    {"params": {"embedding": table}}, inputs, users, train=False
  )
  mf = MF(width=8).apply(
    {"params": {"user": table[:7], "item": table[7:]}}, inputs, users,
    train=False,
  )  # fmt: skip
  np.testing.assert_allclose(light.user_BxD, mf.user_BxD)
  np.testing.assert_allclose(light.item_IxD, mf.item_IxD)
