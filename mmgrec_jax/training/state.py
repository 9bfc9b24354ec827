"""What training carries from step to step, and the optimisers."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from mmgrec_jax.config import Config


@struct.dataclass
class TrainState:
  """A pytree that is all there is to resume from.

  step: int32, updates done.  params, opt_state: of the model.
  extra: whatever else changes (codeword usage, a rebuilt graph, …).
  """

  step: jax.Array
  params: Any
  opt_state: Any
  extra: Any = ()


def new_state(params: Any, opt_state: Any, extra: Any = ()) -> TrainState:
  return TrainState(jnp.int32(0), params, opt_state, extra)


def make_optimizer(
  settings: Config, total_steps: int
) -> optax.GradientTransformation:
  """AdamW, Muon or SGD with warm-up and a cosine or constant schedule.

  Muon (Jordan et al. 2024) turns the step of each matrix into one with singular
  values of 1; scaled so, it wants AdamW's learning rates. Other parameters are
  AdamW's.

  Args:
    settings: an `optimizer` block of the config.
    total_steps: length of the cosine schedule.
  """
  warmup = max(1, round(settings.warmup * total_steps))
  peak = settings.learning_rate
  if settings.schedule == "cosine":
    schedule = optax.warmup_cosine_decay_schedule(
      0.0, peak, warmup, max(total_steps, warmup + 1), end_value=0.01 * peak
    )
  else:
    schedule = optax.linear_schedule(0.0, peak, warmup)
  if settings.name == "sgd":
    # The paper's "L2" is added to the gradient, before momentum.
    rule = optax.chain(
      optax.add_decayed_weights(settings.weight_decay),
      optax.sgd(schedule, momentum=settings.momentum or None),
    )
  elif settings.name == "muon":
    rule = optax.contrib.muon(
      schedule,
      weight_decay=settings.weight_decay,
      adam_weight_decay=settings.weight_decay,
      consistent_rms=0.2,
    )
  else:
    rule = optax.adamw(
      schedule, b2=settings.b2, weight_decay=settings.weight_decay
    )
  return optax.chain(optax.clip_by_global_norm(settings.clip), rule)


def descend(
  optimizer: optax.GradientTransformation, state: TrainState, gradient: Any
) -> tuple[Any, Any]:
  """The parameters and the optimiser's state after one update."""
  updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
  return optax.apply_updates(state.params, updates), opt_state
