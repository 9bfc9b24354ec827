"""Training of the baselines: one step for all of them."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmgrec_jax.data import sampling
from mmgrec_jax.models.collaborative import Inputs, Triples, ranking_objective
from mmgrec_jax.training import parallel
from mmgrec_jax.training.loop import Task
from mmgrec_jax.training.state import (
  TrainState,
  descend,
  make_optimizer,
  new_state,
)


def draw_triples(
  key: jax.Array,
  known: sampling.Interactions,
  edge_B: jax.Array,
  negatives: int,
) -> Triples:
  """Interactions (-1 = padding) and unseen items for each."""
  user_B = known.user_E[edge_B]
  negative_BxJ = sampling.sample_unseen(
    key, known, jnp.repeat(user_B, negatives)
  ).reshape(len(edge_B), negatives)
  return Triples(user_B, known.item_E[edge_B], negative_BxJ, edge_B >= 0)


def collaborative_task(
  name: str,
  model: nn.Module,
  inputs: Inputs,
  settings,
  validate: Callable[[Any], float],
  key: jax.Array,
  objective: Callable = ranking_objective,
) -> Task:
  """Every training interaction once an epoch, with sampled negatives.

  The model's collection `state` is state.extra.

  Args:
    settings: `config.model`.
    validate: replicated parameters -> score.
    objective: (embedded, inputs, triples, settings) -> sum over the batch and
      its parts.
  """
  edges = len(inputs.interactions.item_E)
  batch = settings.batch_size
  steps = -(-edges // batch)
  optimizer = make_optimizer(settings.optimizer, settings.epochs * steps)

  def init():
    start = functools.partial(model.init, train=False)
    variables = jax.jit(start)(key, inputs, jnp.zeros(1, jnp.int32))
    params = variables["params"]
    state = variables.get("state", {})
    return new_state(params, optimizer.init(params), state)

  def plan(inputs, key):
    del inputs
    return parallel.even_batches(sampling.epoch_order(key, edges, steps, batch))

  def step(state, inputs, planned, key, *, axis_name=None):
    negative_key, dropout_key = jax.random.split(key)
    place = state.step % steps
    edge_B = planned[place]
    triples = draw_triples(
      negative_key, inputs.interactions, edge_B, settings.negatives
    )
    share: Triples
    share, my_edge_B, row_B = jax.tree.map(
      lambda a: parallel.my_share(a, axis_name),
      (triples, edge_B, jnp.arange(len(edge_B))),
    )
    inputs = inputs.replace(
      epoch_starts=place == 0, edge_B=my_edge_B, row_B=row_B
    )

    def loss(params):
      embedded, changed = model.apply(
        {"params": params, "state": state.extra},
        inputs,
        share.user_B,
        train=True,
        rngs={"dropout": dropout_key},
        mutable=["state"],
      )
      total, terms = objective(embedded, inputs, share, settings)
      return total, (terms, changed.get("state", {}))

    gradient, metrics, extra = parallel.mean_gradient(
      loss, state.params, share.real_B.sum(), axis_name
    )
    params, opt_state = descend(optimizer, state, gradient)
    return TrainState(state.step + 1, params, opt_state, extra), metrics

  return Task(
    name, inputs, init, plan, step, validate, steps, samples_per_epoch=edges
  )
