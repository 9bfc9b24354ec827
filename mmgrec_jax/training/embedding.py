"""Training of Graph RQ-VAE: eq. 10's two losses, optimised alternately."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from mmgrec_jax.data import neighbours, sampling
from mmgrec_jax.graph import Graph
from mmgrec_jax.models.collaborative import bpr_loss
from mmgrec_jax.models.graph_rqvae import RQVAE, GraphEncoder
from mmgrec_jax.training import parallel, quantizing
from mmgrec_jax.training.collaborative import draw_triples
from mmgrec_jax.training.loop import Task
from mmgrec_jax.training.state import (
  TrainState,
  descend,
  make_optimizer,
  new_state,
)


@struct.dataclass
class EmbeddingData:
  """What every step reads. `features` are concatenated modalities [I, F].

  graph: all of it, or what `config.embed.fan_out` draws neighbourhoods from.
  """

  graph: Graph | neighbours.UsersOf
  features: jax.Array
  interactions: sampling.Interactions


def embedding_task(
  encoder: GraphEncoder,
  rqvae: RQVAE,
  data: EmbeddingData,
  settings,
  rqvae_settings,
  quantize_features: bool,
  validate,
  key: jax.Array,
  seed: int,
) -> Task:
  """L_bpr and L_rqvae in turn, a step each, every one its own optimiser.

  state.params is the encoder's; the RQ-VAE's state is state.extra. Since h is
  stop-gradient in L_rqvae, the encoder learns from interactions alone.

  Args:
    settings, rqvae_settings: `config.embed` and `config.rqvae`.
    quantize_features: quantize the features themselves (Table 3, ID w/o).
    validate: replicated encoder parameters -> score.
  """
  edges = len(data.interactions.item_E)
  batch = settings.batch_size
  steps = -(-edges // batch)
  optimizer = make_optimizer(settings.optimizer, settings.epochs * steps)
  rqvae_optimizer = make_optimizer(
    rqvae_settings.optimizer, settings.epochs * steps
  )

  @jax.jit
  def around(data, key, user_B, item_C):
    return neighbours.draw_neighbourhood(
      key, data.interactions, data.graph, user_B, item_C, settings.fan_out
    )

  def vectors(params, graph, features) -> Any:
    return encoder.apply({"params": params}, graph, features, train=False)

  @jax.jit
  def embed_items(params, data, key, item_B):
    """h of some items, each from a sampled neighbourhood. [B, D]."""
    graph = around(data, key, item_B[:0], item_B)
    return vectors(params, graph, data.features)[1]

  def init():
    encoder_key, rqvae_key = jax.random.split(key)
    x, graph = data.features, data.graph
    if settings.fan_out:
      graph = around(data, key, *jnp.zeros((2, 1), jnp.int32))
    start = encoder.init(encoder_key, graph, x, train=False)["params"]
    if not quantize_features and settings.fan_out:
      x = quantizing.in_batches(
        lambda item_B: embed_items(start, data, key, item_B),
        quantizing.start_rows(len(x), seed),
        rqvae_settings.batch_size,
      )
    elif not quantize_features:
      x = vectors(start, graph, x)[1]
    start_rqvae = quantizing.init_rqvae(
      rqvae, x, rqvae_settings.codebook_start, rqvae_key, seed
    )
    return new_state(
      start,
      optimizer.init(start),
      quantizing.start_state(rqvae, rqvae_optimizer, start_rqvae),
    )

  def plan(data, key):
    return parallel.even_batches(sampling.epoch_order(key, edges, steps, batch))

  def step(state, data, planned, key, *, axis_name=None):
    negative_key, dropout_key, rqvae_key = jax.random.split(key, 3)
    edge_B = planned[state.step % steps]
    triples = draw_triples(
      negative_key, data.interactions, edge_B, settings.negatives
    )
    triples = jax.tree.map(lambda a: parallel.my_share(a, axis_name), triples)
    user_B, real_B = triples.user_B, triples.real_B
    positive_B, negative_BxJ = triples.positive_B, triples.negative_BxJ
    graph = data.graph
    sample_key = jax.random.fold_in(key, 3)
    if settings.fan_out:
      # Embedded are the triples alone: each row stands where it is drawn for.
      item_BxS = jnp.concatenate([positive_B[:, None], negative_BxJ], axis=1)
      graph = around(data, sample_key, user_B, item_BxS.reshape(-1))
      user_B = jnp.arange(len(user_B))
      place_BxS = jnp.arange(item_BxS.size).reshape(item_BxS.shape)
      positive_B, negative_BxJ = place_BxS[:, 0], place_BxS[:, 1:]

    def loss(params):
      h: Any = encoder.apply(
        {"params": params},
        graph,
        data.features,
        train=True,
        rngs={"dropout": dropout_key},
      )
      h_user, h_item = h
      u, i, j = h_user[user_B], h_item[positive_B], h_item[negative_BxJ]
      bpr_B = bpr_loss(u[:, None], i[:, None], j).mean(axis=1)
      l2_B = 0.5 * ((u**2).sum(-1) + (i**2).sum(-1) + (j**2).sum(-1).mean(-1))
      sums = {"bpr": (bpr_B * real_B).sum(), "l2": (l2_B * real_B).sum()}
      return sums["bpr"] + settings.l2 * sums["l2"], (sums, h_item)

    gradient, metrics, h_item = parallel.mean_gradient(
      loss, state.params, real_B.sum(), axis_name
    )
    params, opt_state = descend(optimizer, state, gradient)
    batch_key, seed_key = jax.random.split(rqvae_key)
    item_B, real_B = quantizing.draw_items(
      batch_key, rqvae_settings, len(data.features), axis_name
    )
    if quantize_features:
      x_BxC = data.features[item_B]
    elif settings.fan_out:
      x_BxC = embed_items(state.params, data, sample_key, item_B)
    else:
      x_BxC = jax.lax.stop_gradient(h_item[item_B])
    epoch_ends = (state.step + 1) % steps == 0
    rqvae_next, rqvae_metrics = quantizing.rqvae_update(
      rqvae, rqvae_optimizer, rqvae_settings, state.extra, x_BxC, real_B,
      epoch_ends, seed_key, axis_name,
    )  # fmt: skip
    metrics["rqvae"] = rqvae_metrics["loss"]
    return TrainState(state.step + 1, params, opt_state, rqvae_next), metrics

  return Task(
    "embed", data, init, plan, step, validate, steps, samples_per_epoch=edges
  )
