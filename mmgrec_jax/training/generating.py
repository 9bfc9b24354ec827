"""Training of the generator: cross-entropy of Rec-ID tokens (paper §3.4)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from mmgrec_jax.data import sampling
from mmgrec_jax.data.dataset import Rows
from mmgrec_jax.decoding.log_probs import at_tokens, token_log_probs
from mmgrec_jax.decoding.trie import Trie
from mmgrec_jax.models.generator import Generator, Vectors
from mmgrec_jax.training import parallel, soft_targets
from mmgrec_jax.training.loop import Task
from mmgrec_jax.training.state import (
  TrainState,
  descend,
  make_optimizer,
  new_state,
)


@struct.dataclass
class GeneratorData:
  """What every step reads.

  total_UxD: sum of h_item over each user's training items; None: no user token.
  lists: the teacher's; None: h_u . h_i is the teacher, or there is none.
  """

  vectors: Vectors
  trie: Trie
  interactions: sampling.Interactions
  windows: sampling.Windows
  total_UxD: jax.Array = struct.field(default=None)
  lists: soft_targets.Lists | None = None


def generator_data(
  vectors: Vectors,
  trie: Trie,
  train: Rows,
  targets_per_history: int,
  user_token: bool,
  lists: soft_targets.Lists | None = None,
) -> GeneratorData:
  interactions = sampling.on_device(train, len(trie.item_I))
  total_UxD: Any = None
  if user_token:
    total_UxD = jax.ops.segment_sum(
      vectors.item_IxD[interactions.item_E],
      interactions.user_E,
      len(train.lengths),
    )
  return GeneratorData(
    vectors,
    trie,
    interactions,
    sampling.cut_windows(train, targets_per_history),
    total_UxD,
    lists,
  )


def _profiles(
  data: GeneratorData, user_B: jax.Array, targets_BxT: jax.Array
) -> jax.Array:
  """Mean h_item of all of a user's items but the targets, [B, D].

  The targets must stay out, or it would say what is to be predicted.
  """
  real_BxTx1 = (targets_BxT >= 0)[..., None]
  h_BxTxD = data.vectors.item_IxD[jnp.maximum(targets_BxT, 0)]
  offset = data.interactions.offset
  size_Bx1 = (offset[user_B + 1] - offset[user_B])[:, None]
  rest_BxD = data.total_UxD[user_B] - (h_BxTxD * real_BxTx1).sum(axis=1)
  return rest_BxD / jnp.maximum(size_Bx1 - real_BxTx1.sum(axis=1), 1)


def generator_loss(
  model: Generator,
  params,
  data: GeneratorData,
  user_B: jax.Array,
  history_BxN: jax.Array,
  targets_BxT: jax.Array,
  dropout_key: jax.Array | None,
  row_B: jax.Array | None = None,
  lesson: soft_targets.Lesson | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Summed over targets: mean token cross-entropy over the M levels.

  Args:
    dropout_key: None: there is no dropout.
    row_B: of these histories in all devices' batch; None: they are all of it.
    lesson: None: the paper's hard targets. Else each target stands beside an
      item that the teacher's distribution gives; with a share of 1 that item
      stands in the target's place, and targets may be in the history.

  Returns:
    the sum, and as auxiliary each level's part of it (`level_1`, …).
  """
  real_BxT, T = targets_BxT >= 0, targets_BxT.shape[1]
  hard = T if lesson is None or lesson.share < 1 else 0
  item_BxS = jnp.maximum(targets_BxT, 0)
  p_BxI: Any = None
  if lesson is not None:
    seen_BxH = sampling.items_of(data.interactions, user_B)
    p_BxI = soft_targets.item_distribution(
      data.vectors, data.trie, user_B, seen_BxH, lesson.sharpness, data.lists
    )
    drawn_BxT = soft_targets.draw_items(data.trie, p_BxI, lesson.level_BxT)
    item_BxS = jnp.concatenate([item_BxS[:, :hard], drawn_BxT], axis=1)
  tokens_BxSxM = data.trie.tokens(item_BxS)
  logits: Any = model.apply(
    {"params": params},
    data.vectors,
    user_B,
    history_BxN,
    tokens_BxSxM,
    train=dropout_key is not None,
    profile_BxD=(
      _profiles(data, user_B, targets_BxT[:, :hard])
      if model.user_token
      else None
    ),
    row_B=row_B,
    rngs={} if dropout_key is None else {"dropout": dropout_key},
  )
  log_p = token_log_probs(
    logits[0], logits[1], data.trie, item_BxS, model.trie_softmax
  )
  gain_BxTxM = at_tokens(log_p, tokens_BxSxM)[:, :T]
  if lesson is not None:
    item_BxT, of_drawn = jax.tree.map(lambda a: a[:, -T:], (item_BxS, log_p))
    soft_BxTxM = soft_targets.gain(data.trie, p_BxI, item_BxT, of_drawn)
    gain_BxTxM += lesson.share * (soft_BxTxM - gain_BxTxM)
  loss_M = -(gain_BxTxM * real_BxT[..., None]).sum(axis=(0, 1))
  terms = {f"level_{m + 1}": loss_M[m] for m in range(model.levels)}
  return loss_M.mean(), terms


def init_params(model: Generator, vectors: Vectors, key: jax.Array) -> Any:
  """The parameters that training starts from."""
  sample = jnp.zeros((1, 1), jnp.int32)
  init = jax.jit(functools.partial(model.init, train=False))
  return init(
    key,
    vectors,
    sample[0],
    sample,
    jnp.zeros((1, 1, model.levels), jnp.int32),
    profile_BxD=jnp.zeros((1, model.width)) if model.user_token else None,
  )["params"]


def generator_task(
  model: Generator,
  data: GeneratorData,
  settings,
  validate,
  key: jax.Array,
  in_time: bool = False,
) -> Task:
  """Each step: histories of a batch of users, T targets cut out of each.

  Args:
    settings: `config.generator`; batch_size counts histories.
    validate: replicated parameters -> score.
    in_time: whether the rows of `data` have the newest first and a history is
      what came before its targets; else it is any of the user's other items.
  """
  samples = len(data.windows.user_S)
  batch = settings.batch_size
  steps = -(-samples // batch)
  N, T = settings.history_length, settings.targets_per_history
  soft = settings.soft_targets
  optimizer = make_optimizer(settings.optimizer, settings.epochs * steps)

  def init():
    params = init_params(model, data.vectors, key)
    return new_state(params, optimizer.init(params))

  def plan(data, key):
    shuffle_key, order_key = jax.random.split(key)
    order = sampling.epoch_order(order_key, samples, steps, batch)
    order_E = jnp.arange(len(data.interactions.item_E))
    if not in_time:
      order_E = sampling.shuffle_rows(shuffle_key, data.interactions)
    return order_E, parallel.even_batches(order)

  def step(state, data, planned, key, *, axis_name=None):
    order_E, order = planned
    sample_B = order[state.step % steps]
    # For the whole batch, so that any number of devices draws the same.
    row_B = jnp.arange(len(sample_B))
    level_BxT = jax.random.uniform(
      jax.random.fold_in(key, 0), (len(sample_B), T)
    )
    sample_B, row_B, level_BxT = (
      parallel.my_share(a, axis_name) for a in (sample_B, row_B, level_BxT)
    )
    lesson = None
    if soft.share > 0:
      lesson = soft_targets.Lesson(soft.share, soft.sharpness, level_BxT)
    user_B, history_BxN, targets_BxT = sampling.draw_windows(
      order_E,
      data.interactions,
      data.windows,
      sample_B,
      N,
      T,
      around=not in_time,
      whole=soft.share == 1,
    )

    def loss(params):
      total, terms = generator_loss(
        model,
        params,
        data,
        user_B,
        history_BxN,
        targets_BxT,
        jax.random.fold_in(key, 1),
        row_B,
        lesson,
      )
      return total, (terms, ())

    gradient, metrics, _ = parallel.mean_gradient(
      loss, state.params, (targets_BxT >= 0).sum(), axis_name
    )
    params, opt_state = descend(optimizer, state, gradient)
    return TrainState(state.step + 1, params, opt_state), metrics

  return Task(
    "generate",
    data,
    init,
    plan,
    step,
    validate,
    steps,
    samples_per_epoch=len(data.interactions.item_E),
  )
