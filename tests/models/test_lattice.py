import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.models import collaborative as cf
from mmgrec_jax.models.lattice import LATTICE


def model_of(found, **changes):
  """As the oracle has it, but for `changes`."""
  fields = dict(
    width=8,
    neighbours=int(found["knn_k"]),
    original=float(found["lam"]),
    laplacian="row_self_loops",
    trainable_features=True,
  )
  return LATTICE(**{**fields, **changes})


def tree(found, kind):
  get = lambda name: found[f"{kind}/{name}"]
  out = {
    "user": get("user_embedding.weight"),
    "item": get("item_id_embedding.weight"),
    "modal_weight": get("modal_weight"),
  }
  for ours, theirs in (("t", "text"), ("v", "image")):
    out[f"{ours}_features"] = get(f"{theirs}_embedding.weight")
    out[f"{ours}_kernel"] = get(f"{theirs}_trs.weight").T
    out[f"{ours}_bias"] = get(f"{theirs}_trs.bias")
  # Theirs has the image first; ours is in the order of the alphabet.
  return {**out, "modal_weight": out["modal_weight"][::-1]}


def as_float32(params):
  return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)


def random_params(model, inputs, rng):
  shapes = jax.eval_shape(
    lambda: model.init(jax.random.key(0), inputs, jnp.arange(7), train=False)
  )["params"]
  return jax.tree.map(
    lambda a: jnp.asarray(rng.normal(size=a.shape), jnp.float32), shapes
  )


def dense(matrix):
  out = np.zeros([len(matrix.index_RxC)] * 2)
  rows = np.arange(len(out))[:, None]
  np.add.at(out, (rows, matrix.index_RxC), matrix.weight_RxC)
  return out


def embed(model, params, inputs, train=False, **state):
  return model.apply(
    {"params": params, **state}, inputs, jnp.arange(7), train=train,
    mutable=["state"] if train else False,
  )  # fmt: skip


@pytest.fixture
def found(oracle):
  return oracle("lattice")


@pytest.fixture
def inputs(found, tiny_inputs):
  return cf.prepare(model_of(found), tiny_inputs("vt"))


def test_loss_and_gradients_equal_the_oracle(agree, found, inputs):
  agree(
    model_of(found), inputs, tree(found, "param"), found["loss"],
    tree(found, "grad"), l2=float(found["reg_weight"]),
  )  # fmt: skip


def test_vectors_equal_the_oracle(found, inputs):
  out = embed(model_of(found), as_float32(tree(found, "param")), inputs)
  np.testing.assert_allclose(out.user_BxD, found["user_out"], atol=1e-5)
  np.testing.assert_allclose(out.item_IxD, found["item_out"], atol=1e-5)


def test_graphs_equal_the_oracle(found, inputs):
  """Those of the features, and the one that is kept at an epoch's start."""
  for name, theirs in (("v", "image"), ("t", "text")):
    np.testing.assert_allclose(
      dense(inputs.prepared[name]), found[f"{theirs}_original_adj"], atol=1e-5
    )
  params = as_float32(tree(found, "param"))
  model = model_of(found)
  state = model.init(jax.random.key(0), inputs, jnp.arange(7), train=False)
  _, changed = embed(model, params, inputs, True, state=state["state"])
  kept = changed["state"]["item_graph"]
  np.testing.assert_allclose(dense(kept), found["item_adj"], atol=1e-5)


def test_every_item_has_k_different_neighbours_itself_first(found, inputs):
  k = int(found["knn_k"])
  for graph in inputs.prepared.values():
    index = np.asarray(graph.index_RxC)
    np.testing.assert_array_equal(index[:, 0], np.arange(9))
    assert [len(set(row)) for row in index.tolist()] == [k] * 9
    assert (np.asarray(graph.weight_RxC) != 0).all()


@pytest.mark.parametrize("original, same", [(1.0, True), (0.9, False)])
def test_with_the_features_graphs_alone_the_projection_is_idle(
  found, inputs, rng, original, same
):
  model = model_of(found, original=original)
  params = as_float32(tree(found, "param"))
  moved = {**params, "v_kernel": params["v_kernel"][::-1]}
  h = [embed(model, p, inputs).item_IxD for p in (params, moved)]
  assert np.allclose(*h, atol=1e-6) == same


def test_the_graph_is_rebuilt_and_has_a_gradient_at_an_epochs_start_only(
  found, inputs
):
  model = model_of(found)
  variables = model.init(jax.random.key(0), inputs, jnp.arange(7), train=False)
  state = variables["state"]
  params = as_float32(tree(found, "param"))  # not those of the state's graph

  def step(first):
    here = inputs.replace(epoch_starts=jnp.array(first))

    def total(params):
      out, changed = embed(model, params, here, True, state=state)
      return (out.user_BxD @ out.item_IxD.T).var(), changed["state"]

    return jax.jit(jax.grad(total, has_aux=True))(params)

  through = ("modal_weight", "v_kernel", "t_bias", "t_features")
  gradient, after = step(True)
  assert all(np.abs(gradient[name]).max() > 0 for name in through)
  assert not np.allclose(dense(after["item_graph"]), dense(state["item_graph"]))
  gradient, after = step(False)
  assert all((np.asarray(gradient[name]) == 0).all() for name in through)
  jax.tree.map(np.testing.assert_array_equal, after, state)
  assert np.abs(gradient["item"]).max() > 0


def test_opposite_features_give_finite_vectors(found, make_inputs, oracle):
  """Every cosine but an item's own is negative, and one item has no feature."""
  x = np.kron(np.eye(4), [[1, 0.1], [-1, -0.2]])
  x = np.concatenate([x - 0.01, np.zeros((1, 8))])
  user, item = oracle("tiny_graph")["edges"].T
  inputs = make_inputs(user, item, 7, 9, {"v": x[:, ::2] - x.mean()})
  model = model_of(found, trainable_features=False, neighbours=9)
  inputs = cf.prepare(model, inputs)
  params = model.init(jax.random.key(0), inputs, jnp.arange(7), train=False)

  def total(params):
    out = embed(model, params, inputs)
    return (out.user_BxD @ out.item_IxD.T).sum()

  gradient = jax.jit(jax.grad(total))(params["params"])
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_without_modalities_it_is_its_backbone(found, tiny_inputs, rng):
  params = as_float32(
    {"user": rng.normal(size=(7, 8)), "item": rng.normal(size=(9, 8))}
  )
  out = embed(model_of(found), params, tiny_inputs())
  norm_adj = found["norm_adj"]
  e = [np.concatenate([params["user"], params["item"]])]
  e += [norm_adj @ e[0], norm_adj @ norm_adj @ e[0]]
  np.testing.assert_allclose(out.item_IxD, np.mean(e, 0)[7:], atol=1e-5)


def of_history(params, user, user_E, item_E):
  """A user's vector by its definition."""
  items = item_E[user_E == user]
  said = params["said"][items].mean(axis=0) if len(items) else 0
  return params["user"][user] + said


@pytest.mark.parametrize("form", ["ell", "segment"])
def test_users_are_their_row_and_what_their_items_say(
  found, oracle, tiny_inputs, rng, form
):
  model = model_of(found, users="history")
  inputs = cf.prepare(model, tiny_inputs("vt", form))
  params = random_params(model, inputs, rng)
  out = embed(model, params, inputs)
  edges = oracle("tiny_graph")["edges"].T
  expected = [of_history(params, user, *edges) for user in range(7)]
  np.testing.assert_allclose(out.user_BxD, expected, rtol=1e-5, atol=1e-6)


def test_the_item_to_learn_is_left_out_of_the_history(
  found, oracle, make_inputs, rng
):
  """As if the interaction were not in the data; all others are."""
  user_E, item_E = oracle("tiny_graph")["edges"].T
  inputs = make_inputs(user_E, item_E, 7, 9)
  model = model_of(found, users="history")
  params = random_params(model, inputs, rng)
  known = inputs.interactions
  edge_B = jnp.arange(len(user_E))
  out, _ = model.apply(
    {"params": params},
    inputs.replace(edge_B=edge_B),
    known.user_E,
    train=True,
    mutable=["state"],
  )
  for edge in range(len(user_E)):
    user, item = int(known.user_E[edge]), int(known.item_E[edge])
    kept = (user_E != user) | (item_E != item)
    expected = of_history(params, user, user_E[kept], item_E[kept])
    np.testing.assert_allclose(
      out.user_BxD[edge], expected, rtol=1e-5, atol=1e-5
    )
