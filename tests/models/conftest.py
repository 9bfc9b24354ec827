"""The tiny graph of tests/oracles, and what every baseline is tested with."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.data import sampling
from mmgrec_jax.data.dataset import Rows
from mmgrec_jax.graph import bipartite_graph
from mmgrec_jax.models import collaborative as cf

PARITY = Path(__file__).parents[1] / "oracles" / "parity"


class Settings:
  def __init__(self, l2):
    self.l2, self.loss = l2, "bpr"


def load(name):
  with np.load(PARITY / f"{name}.npz") as saved:
    return {key: np.asarray(saved[key]) for key in saved.files}


def inputs_from(user_E, item_E, n_users, n_items, features=None, form="ell"):
  """Inputs from interactions in any order."""
  order = np.lexsort((item_E, user_E))
  user_E, item_E = user_E[order], item_E[order]
  offset = np.searchsorted(user_E, np.arange(n_users + 1))
  rows = Rows(offset.astype("i4"), item_E.astype("i4"))
  return cf.Inputs(
    graph=bipartite_graph(user_E, item_E, n_users, n_items, form),
    features={
      k: jnp.asarray(v, jnp.float32) for k, v in (features or {}).items()
    },
    interactions=sampling.on_device(rows, n_items),
    epoch_starts=jnp.array(True),
  )


@pytest.fixture
def oracle():
  """name -> its arrays."""
  return load


@pytest.fixture
def make_inputs():
  """(users, items, n_users, n_items, features) -> Inputs."""
  return inputs_from


@pytest.fixture
def tiny_inputs():
  """modalities (any of v, a, t), form -> Inputs with raw features."""
  tiny = load("tiny_graph")

  def make(modalities="", form="ell"):
    features = {m: tiny[f"{m}_feat"] for m in modalities}
    return inputs_from(*tiny["edges"].T, 7, 9, features, form)

  return make


@pytest.fixture
def tiny_triples():
  tiny = load("tiny_graph")
  return cf.Triples(
    jnp.asarray(tiny["batch_users"], jnp.int32),
    jnp.asarray(tiny["batch_pos"], jnp.int32),
    jnp.asarray(tiny["batch_neg"], jnp.int32)[:, None],
    jnp.ones(12, bool),
  )


@pytest.fixture
def agree(tiny_triples):
  """Checks loss and gradients of a model against those of an oracle."""

  def check(model, inputs, params, loss, gradient, l2, objective=None):
    """`params` and `gradient` are shaped alike; None = no gradient given."""
    objective = objective or cf.ranking_objective

    def mean_loss(params):
      embedded = model.apply(
        {"params": params}, inputs, tiny_triples.user_B, train=False
      )
      total, _ = objective(embedded, inputs, tiny_triples, Settings(l2))
      return total / len(tiny_triples.user_B)

    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)
    made = jax.eval_shape(
      lambda: model.init(
        jax.random.key(0), inputs, tiny_triples.user_B, train=False
      )
    )["params"]
    shapes = lambda tree: jax.tree.map(lambda a: a.shape, tree)
    assert shapes(made) == shapes(params)
    ours, our_gradient = jax.jit(jax.value_and_grad(mean_loss))(params)
    np.testing.assert_allclose(ours, np.squeeze(loss), rtol=1e-5)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(
        a, b, atol=1e-5 * np.abs(b).max(), rtol=1e-5
      ),
      our_gradient,
      gradient,
    )

  return check
