"""Training of Graph RQ-VAE: eq. 10's two losses, optimised alternately."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from mmgrec_jax.data import sampling
from mmgrec_jax.graph import Graph
from mmgrec_jax.models.collaborative import bpr_loss
from mmgrec_jax.models.graph_rqvae import (
  RQVAE,
  GraphEncoder,
  rqvae_loss,
)
from mmgrec_jax.nn import quantizer
from mmgrec_jax.training import parallel
from mmgrec_jax.training.loop import Task
from mmgrec_jax.training.state import (
  TrainState,
  descend,
  make_optimizer,
  new_state,
)


@struct.dataclass
class EmbeddingData:
  """What every step reads. `features` are concatenated modalities [I, F]."""

  graph: Graph
  features: jax.Array
  interactions: sampling.Interactions


def init_rqvae(
  model: RQVAE, x_IxC: jax.Array, start: str, key: jax.Array, seed: int
) -> Any:
  """Parameters of the RQ-VAE, its codebooks from k-means of x's latents.

  Args:
    start: `kmeans` (on all items) or `uniform` (as initialised).
  """
  params = model.init(key, x_IxC)["params"]
  if start == "kmeans":
    z_IxZ = model.apply({"params": params}, x_IxC)[0]
    books = quantizer.kmeans_codebooks(
      np.asarray(z_IxZ), model.levels, model.codebook_size, seed
    )
    params = {**params, "codebooks": jnp.asarray(books)}
  return params


def _reseed(
  codebooks_MxLxZ: jax.Array,
  usage_MxL: jax.Array,
  quantized: quantizer.Quantized,
  key: jax.Array,
) -> jax.Array:
  """Replaces codewords nobody used by residuals of the batch."""
  levels, size, _ = codebooks_MxLxZ.shape
  batch = quantized.codes_BxM.shape[0]
  row_MxL = jax.random.randint(key, (levels, size), 0, batch)
  level_Mx1 = jnp.arange(levels)[:, None]
  fresh = quantized.residuals_MxBxD[level_Mx1, row_MxL]
  return jnp.where(usage_MxL[..., None] == 0, fresh, codebooks_MxLxZ)


def rqvae_update(
  model: RQVAE,
  optimizer: optax.GradientTransformation,
  settings,
  state: TrainState,
  x_IxC: jax.Array,
  epoch_ends: jax.Array,
  key: jax.Array,
  axis_name: str | None,
) -> tuple[TrainState, dict[str, jax.Array]]:
  """One step of L_rqvae on a batch of items; state.extra counts usage.

  At the end of an epoch codewords that no item chose in it are re-seeded.
  """
  batch_key, seed_key = jax.random.split(key)
  batch = parallel.global_batch(settings.batch_size)
  item_B = jax.random.randint(batch_key, (batch,), 0, len(x_IxC))
  share_B = parallel.my_share(item_B, axis_name)

  def loss(params):
    mean, (terms, quantized) = rqvae_loss(
      model, params, x_IxC[share_B], settings.beta
    )
    sums = jax.tree.map(lambda a: a * len(share_B), (mean, terms))
    return sums[0], (sums[1], quantized)

  gradient, metrics, quantized = parallel.mean_gradient(
    loss, state.params, jnp.float32(len(share_B)), axis_name
  )
  if axis_name is not None:
    gather = functools.partial(jax.lax.all_gather, axis_name=axis_name)
    quantized = quantizer.Quantized(
      gather(quantized.codes_BxM, axis=0, tiled=True),
      gather(quantized.residuals_MxBxD, axis=1, tiled=True),
      gather(quantized.codewords_MxBxD, axis=1, tiled=True),
    )
  params, opt_state = descend(optimizer, state, gradient)
  level_M = jnp.arange(model.levels)
  usage = state.extra.at[level_M[None], quantized.codes_BxM].add(1)
  reseeded = _reseed(params["codebooks"], usage, quantized, seed_key)
  params["codebooks"] = jnp.where(epoch_ends, reseeded, params["codebooks"])
  usage = jnp.where(epoch_ends, 0, usage)
  return TrainState(state.step + 1, params, opt_state, usage), metrics


def rqvae_state(model, optimizer, params) -> TrainState:
  usage = jnp.zeros((model.levels, model.codebook_size), jnp.int32)
  return new_state(params, optimizer.init(params), usage)


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
  batch = parallel.global_batch(settings.batch_size)
  steps = -(-edges // batch)
  optimizer = make_optimizer(settings.optimizer, settings.epochs * steps)
  rqvae_optimizer = make_optimizer(
    rqvae_settings.optimizer, settings.epochs * steps
  )

  def init():
    encoder_key, rqvae_key = jax.random.split(key)
    params = encoder.init(encoder_key, data.graph, data.features, train=False)[
      "params"
    ]
    h: Any = encoder.apply(
      {"params": params}, data.graph, data.features, train=False
    )
    x = data.features if quantize_features else h[1]
    start = init_rqvae(rqvae, x, rqvae_settings.codebook_start, rqvae_key, seed)
    return new_state(
      params,
      optimizer.init(params),
      rqvae_state(rqvae, rqvae_optimizer, start),
    )

  def plan(data, key):
    return sampling.epoch_order(key, edges, steps, batch)

  def step(state, data, planned, key, *, axis_name=None):
    negative_key, dropout_key, rqvae_key = jax.random.split(key, 3)
    edge_B = planned[state.step % steps]
    known = data.interactions
    user_B, positive_B = known.user_E[edge_B], known.item_E[edge_B]
    negative_BxJ = sampling.sample_unseen(
      negative_key, known, jnp.repeat(user_B, settings.negatives)
    ).reshape(batch, settings.negatives)
    real_B, user_B, positive_B, negative_BxJ = (
      parallel.my_share(a, axis_name)
      for a in (edge_B >= 0, user_B, positive_B, negative_BxJ)
    )

    def loss(params):
      h: Any = encoder.apply(
        {"params": params},
        data.graph,
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
    x = data.features if quantize_features else jax.lax.stop_gradient(h_item)
    epoch_ends = (state.step + 1) % steps == 0
    rqvae_next, rqvae_metrics = rqvae_update(
      rqvae, rqvae_optimizer, rqvae_settings, state.extra, x, epoch_ends,
      rqvae_key, axis_name,
    )  # fmt: skip
    metrics["rqvae"] = rqvae_metrics["loss"]
    return TrainState(state.step + 1, params, opt_state, rqvae_next), metrics

  return Task(
    "embed", data, init, plan, step, validate, steps, samples_per_epoch=edges
  )


def rqvae_task(rqvae: RQVAE, x_IxC: jax.Array, params: Any, settings) -> Task:
  """L_rqvae alone, once h is final, until items are rebuilt no better.

  The reconstruction decides, not the whole loss: the codebook term grows with
  the latents' scale, which on high-dimensional features would call the first
  epoch the best.

  Args:
    x_IxC: what is quantized.
    params: where the RQ-VAE starts from.
    settings: `config.rqvae`; an epoch is `steps_per_epoch` batches.
  """
  steps = settings.steps_per_epoch
  optimizer = make_optimizer(settings.optimizer, settings.epochs * steps)

  def step(state, x_IxC, planned, key, *, axis_name=None):
    del planned
    epoch_ends = (state.step + 1) % steps == 0
    return rqvae_update(
      rqvae, optimizer, settings, state, x_IxC, epoch_ends, key, axis_name
    )

  def reconstruction(params, x):
    _, (terms, _) = rqvae_loss(rqvae, params, x, settings.beta)
    return terms["reconstruction"]

  error = parallel.everywhere(reconstruction)
  x_everywhere = parallel.replicate(x_IxC)
  batch = parallel.global_batch(settings.batch_size)
  return Task(
    "rqvae",
    x_IxC,
    init=lambda: rqvae_state(rqvae, optimizer, params),
    plan=lambda data, key: (),
    step=step,
    validate=lambda params: -float(error(params, x_everywhere)[0]),
    steps_per_epoch=steps,
    samples_per_epoch=steps * batch,
  )
