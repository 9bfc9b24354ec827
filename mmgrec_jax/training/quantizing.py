"""Training of the RQ-VAE: L_rqvae of eq. 10."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmgrec_jax.models.graph_rqvae import RQVAE, rqvae_loss
from mmgrec_jax.nn import quantizer
from mmgrec_jax.training import parallel
from mmgrec_jax.training.loop import Task
from mmgrec_jax.training.state import (
  TrainState,
  descend,
  make_optimizer,
  new_state,
)

# Rows that k-means starts from, at most: 1024 for each of 128 codewords.
START_ROWS = 2**17
# Rows that go through the whole RQ-VAE at a time.
ROWS = 2**16


def start_rows(n: int, seed: int) -> np.ndarray:
  """Rows 0 … n-1, or START_ROWS of them."""
  if n <= START_ROWS:
    return np.arange(n)
  return np.random.default_rng(seed).choice(n, START_ROWS, replace=False)


def in_batches(
  function: Callable[[jax.Array], Any], row_N: np.ndarray, batch: int
) -> Any:
  """A function of rows, int32 [batch] -> arrays [batch, ...], of any number."""
  row_GxB = np.resize(row_N, (-(-len(row_N) // batch), batch))
  parts = [function(jnp.asarray(row_B, jnp.int32)) for row_B in row_GxB]
  join = lambda *of_batches: jnp.concatenate(of_batches)[: len(row_N)]
  return jax.tree.map(join, *parts)


def quantize(
  model: RQVAE, params: Any, x_IxC: jax.Array
) -> tuple[np.ndarray, np.ndarray]:
  """Semantic tokens of all items, and how well they rebuild x.

  Returns:
    int32 [I, M - 1], and the squared distance of x rebuilt to x, float32 [I].
  """

  @jax.jit
  def of_rows(params, x_IxC, row_B):
    x_BxC = x_IxC[row_B]
    out: Any = model.apply({"params": params}, x_BxC)
    _, x_hat_BxC, quantized = out
    return quantized.codes_BxM, ((x_BxC - x_hat_BxC) ** 2).sum(axis=1)

  rows = np.arange(len(x_IxC))
  call = functools.partial(of_rows, params, x_IxC)
  return jax.device_get(in_batches(call, rows, min(len(rows), ROWS)))


def mean_error(
  model: RQVAE, params: Any, x_IxC: jax.Array, beta: float
) -> jax.Array:
  """L_rqvae's reconstruction, mean over all items, ROWS at a time."""

  def of_rows(x_BxC):
    _, (terms, _) = rqvae_loss(model, params, x_BxC, beta)
    return terms["reconstruction"].mean()

  chunks = len(x_IxC) // ROWS
  whole = chunks * ROWS
  if not chunks:
    return of_rows(x_IxC)
  # A chunk is every so-many-th row: tables split by rows stay so.
  x_GxBxC = jnp.swapaxes(x_IxC[:whole].reshape(ROWS, chunks, -1), 0, 1)
  total = ROWS * jax.lax.map(of_rows, x_GxBxC).sum()
  if whole < len(x_IxC):
    total += (len(x_IxC) - whole) * of_rows(x_IxC[whole:])
  return total / len(x_IxC)


def init_rqvae(
  model: RQVAE, x_IxC: jax.Array, start: str, key: jax.Array, seed: int
) -> Any:
  """Parameters of the RQ-VAE, its codebooks from k-means of x's latents.

  Args:
    start: `kmeans` (on at most START_ROWS items) or `uniform` (as initialised).
  """
  if len(x_IxC) > START_ROWS:
    x_IxC = x_IxC[start_rows(len(x_IxC), seed)]
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
  batch: int,
  key: jax.Array,
) -> jax.Array:
  """Replaces codewords nobody used by residuals of the batch's rows, which
  stand first."""
  levels, size, _ = codebooks_MxLxZ.shape
  row_MxL = jax.random.randint(key, (levels, size), 0, batch)
  level_Mx1 = jnp.arange(levels)[:, None]
  fresh = quantized.residuals_MxBxD[level_Mx1, row_MxL]
  return jnp.where(usage_MxL[..., None] == 0, fresh, codebooks_MxLxZ)


def draw_items(
  key: jax.Array, settings, n_items: int, axis_name: str | None
) -> tuple[jax.Array, jax.Array]:
  """This device's share of a random batch of items. int32 [B].

  And bool [B]: False where the batch is only filled up.
  """
  item_B = jax.random.randint(key, (settings.batch_size,), 0, n_items)
  item_B = parallel.even_batches(item_B[None])[0]
  item_B = parallel.my_share(item_B, axis_name)
  return jnp.maximum(item_B, 0), item_B >= 0


def rqvae_update(
  model: RQVAE,
  optimizer: optax.GradientTransformation,
  settings,
  state: TrainState,
  x_BxC: jax.Array,
  real_B: jax.Array,
  epoch_ends: jax.Array,
  key: jax.Array,
  axis_name: str | None,
) -> tuple[TrainState, dict[str, jax.Array]]:
  """One step of L_rqvae on a batch of items; state.extra counts usage.

  At the end of an epoch codewords that no item chose in it are re-seeded.

  Args:
    x_BxC, real_B: of this device's share of the batch, see `draw_items`.
  """

  def loss(params):
    of_rows = rqvae_loss(model, params, x_BxC, settings.beta)
    loss_B, (terms, quantized) = of_rows
    sums = jax.tree.map(lambda a_B: (a_B * real_B).sum(), (loss_B, terms))
    return sums[0], (sums[1], quantized)

  gradient, metrics, quantized = parallel.mean_gradient(
    loss, state.params, real_B.sum(), axis_name
  )
  if axis_name is not None:
    gather = functools.partial(jax.lax.all_gather, axis_name=axis_name)
    real_B = gather(real_B, axis=0, tiled=True)
    quantized = quantizer.Quantized(
      gather(quantized.codes_BxM, axis=0, tiled=True),
      gather(quantized.residuals_MxBxD, axis=1, tiled=True),
      gather(quantized.codewords_MxBxD, axis=1, tiled=True),
    )
  params, opt_state = descend(optimizer, state, gradient)
  level_M = jnp.arange(model.levels)
  usage = state.extra.at[level_M[None], quantized.codes_BxM].add(
    real_B[:, None].astype(jnp.int32)
  )
  reseeded = _reseed(
    params["codebooks"], usage, quantized, settings.batch_size, key
  )
  params["codebooks"] = jnp.where(epoch_ends, reseeded, params["codebooks"])
  usage = jnp.where(epoch_ends, 0, usage)
  return TrainState(state.step + 1, params, opt_state, usage), metrics


def start_state(model, optimizer, params) -> TrainState:
  usage = jnp.zeros((model.levels, model.codebook_size), jnp.int32)
  return new_state(params, optimizer.init(params), usage)


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
    batch_key, seed_key = jax.random.split(key)
    item_B, real_B = draw_items(batch_key, settings, len(x_IxC), axis_name)
    epoch_ends = (state.step + 1) % steps == 0
    return rqvae_update(
      rqvae, optimizer, settings, state, x_IxC[item_B], real_B, epoch_ends,
      seed_key, axis_name,
    )  # fmt: skip

  error = parallel.everywhere(
    lambda params, x_IxC: mean_error(rqvae, params, x_IxC, settings.beta)
  )
  x_everywhere = parallel.replicate(x_IxC)
  return Task(
    "rqvae",
    x_IxC,
    init=lambda: start_state(rqvae, optimizer, params),
    plan=lambda data, key: (),
    step=step,
    validate=lambda params: (
      -float(parallel.unreplicate(error(params, x_everywhere)))
    ),
    steps_per_epoch=steps,
    samples_per_epoch=steps * settings.batch_size,
  )
