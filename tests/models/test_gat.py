import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.config import check, default_config
from mmgrec_jax.errors import UserError
from mmgrec_jax.graph import bipartite_graph
from mmgrec_jax.models.collaborative import embed_everyone
from mmgrec_jax.models.gat import GAT
from mmgrec_jax.nn.graph_attention import attend

CASES = {"gat": 1, "gat_heads2": 2}


def tree(found, kind):
  layers = {
    f"layer_{k}": {
      "W": {"kernel": found[f"{kind}/conv{k}.lin.weight"].T},
      "source": found[f"{kind}/conv{k}.att_src"][0],
      "target": found[f"{kind}/conv{k}.att_dst"][0],
      "bias": found[f"{kind}/conv{k}.bias"],
    }
    for k in (1, 2)
  }
  return {"embedding": found[f"{kind}/x"], **layers}


@pytest.mark.parametrize("form", ["ell", "segment"])
@pytest.mark.parametrize("name", CASES)
def test_vectors_loss_and_gradients_equal_the_oracle(
  name, form, agree, oracle, tiny_inputs
):
  found, inputs = oracle(name), tiny_inputs(form=form)
  model = GAT(width=6, hidden=8, heads=CASES[name])
  agree(
    model, inputs, tree(found, "param"), found["loss"], tree(found, "grad"),
    l2=0.0,
  )  # fmt: skip
  params = jax.tree.map(jnp.float32, tree(found, "param"))
  out = np.concatenate(embed_everyone(model, params, inputs))
  np.testing.assert_allclose(out, found["out"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", ["ell", "segment"])
def test_weights_equal_the_oracles(form, oracle):
  """Of nodes as one-hot rows, the weighted mean is the weights."""
  found = oracle("gat_heads2")
  edges = oracle("tiny_graph")["edges"].T
  z = found["param/x"] @ found["param/conv1.lin.weight"].T
  z = z.reshape(16, 2, 4)
  source = (z * found["param/conv1.att_src"]).sum(-1)
  target = (z * found["param/conv1.att_dst"]).sum(-1)
  one_hot = np.repeat(np.eye(16)[:, None], 2, axis=1)
  args = (jnp.asarray(a, jnp.float32) for a in (source, target, one_hot))
  alpha_NxHxN = attend(bipartite_graph(*edges, 7, 9, form), *args)
  sender, receiver = found["att_edge_index"]
  np.testing.assert_allclose(
    alpha_NxHxN[receiver, :, sender], found["att_alpha"], rtol=1e-5
  )
  np.testing.assert_allclose(alpha_NxHxN.sum(axis=2), 1, rtol=1e-5)
  # The item without interactions has only itself.
  np.testing.assert_allclose(alpha_NxHxN[15, :, 15], 1, rtol=1e-6)


def test_heads_must_share_the_hidden_width():
  config = default_config("gat")
  config.model.heads = 3
  with pytest.raises(UserError, match="heads = 3: it must divide"):
    check(config)


def test_dropout_is_for_training_only(tiny_inputs):
  inputs = tiny_inputs()
  plain, dropping = GAT(width=6), GAT(width=6, dropout=0.5)
  variables = plain.init(jax.random.key(0), inputs, jnp.arange(7), train=False)
  vectors = lambda model, train: model.apply(
    variables, inputs, jnp.arange(7), train=train,
    rngs={"dropout": jax.random.key(1)},
  ).item_IxD  # fmt: skip
  np.testing.assert_array_equal(vectors(dropping, False), vectors(plain, True))
  assert (vectors(dropping, True) != vectors(plain, True)).any()
