"""Training of InvRL's mask: rounds of environments, then of the mask."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from mmgrec_jax.data import sampling
from mmgrec_jax.models import invrl
from mmgrec_jax.models.collaborative import Inputs, Triples, embed_everyone
from mmgrec_jax.training.collaborative import draw_triples
from mmgrec_jax.training.loop import Schedule, Task
from mmgrec_jax.training.state import TrainState, descend, new_state


@struct.dataclass
class MaskData:
  """What every step reads. `frozen`: the pretrained parameters."""

  inputs: Inputs
  frozen: Any


@struct.dataclass
class Environments:
  """What changes by pass and by round, beside the mask's parameters.

  of_E: the environment of each interaction.  order_E: interactions by
  environment.  size_K: how many each has.  All int32.
  moved: share that changed it at the end of the last pass.
  mask_F: the mask so far; 0 before there is one.
  nets: `linear` [K, F, D] and `bias` [K, D], with their optimiser.
  """

  of_E: jax.Array
  order_E: jax.Array
  size_K: jax.Array
  moved: jax.Array
  mask_F: jax.Array
  nets: TrainState

  def assign(self, of_E: jax.Array) -> "Environments":
    """Each interaction to its environment."""
    return self.replace(  # type: ignore
      of_E=of_E,
      order_E=jnp.argsort(of_E).astype(jnp.int32),
      size_K=jnp.bincount(of_E, length=len(self.size_K)).astype(jnp.int32),
      moved=(of_E != self.of_E).mean(),
    )

  def draw(
    self, key: jax.Array, known: sampling.Interactions, n: int, negatives: int
  ) -> Triples:
    """`n` interactions of each environment, with negatives: [K, n, …]."""
    place_key, negative_key = jax.random.split(key)
    K, size_Kx1 = len(self.size_K), self.size_K[:, None]
    place_Kxn = jax.random.randint(
      place_key, (K, n), 0, jnp.maximum(size_Kx1, 1)
    )
    first_Kx1 = jnp.cumsum(self.size_K)[:, None] - size_Kx1
    # An empty last environment would point past the end.
    last = len(self.order_E) - 1
    edge_Kxn = self.order_E[jnp.minimum(first_Kx1 + place_Kxn, last)]
    edge_Kxn = jnp.where(size_Kx1 > 0, edge_Kxn, -1)
    flat = draw_triples(negative_key, known, edge_Kxn.ravel(), negatives)
    return jax.tree.map(lambda a: a.reshape(K, n, *a.shape[1:]), flat)


def best_environment(
  model: invrl.InvRL, data: MaskData, nets: Any
) -> jax.Array:
  """The environment that gives each interaction its highest score. [E]."""
  known = data.inputs.interactions

  def scores(net):
    h_user, h_item = embed_everyone(model, {**data.frozen, **net}, data.inputs)
    return (h_user[known.user_E] * h_item[known.item_E]).sum(axis=-1)

  return jax.lax.map(scores, nets).argmax(axis=0).astype(jnp.int32)


class _Rounds:
  """The two kinds of step, and what they start from."""

  def __init__(self, model: invrl.InvRL, settings, data: MaskData, key):
    self.model, self.settings, self.key = model, settings, key
    self.own = own = settings.mask
    self.shape = data.frozen["linear"].shape
    self.edges = len(data.inputs.interactions.item_E)
    self.steps = -(-self.edges // (own.environments * own.batch_size))
    self.pass_steps = own.pass_epochs * self.steps
    self.cluster_steps = own.passes * self.pass_steps
    self.round_steps = self.cluster_steps + own.epochs * self.steps
    self.optimizer = optax.adam(own.learning_rate)

  def new_W(self, step) -> jax.Array:
    return invrl.small_normal(jax.random.fold_in(self.key, step), self.shape)

  def new_nets(self, step) -> TrainState:
    """All alike: only their interactions will tell them apart."""
    K, D = self.own.environments, self.shape[1]
    linear_KxFxD = jnp.stack([self.new_W(step)] * K)
    params = {"linear": linear_KxFxD, "bias": jnp.zeros((K, D))}
    return new_state(params, self.optimizer.init(params))

  def new_mask(self, step) -> tuple[Any, Any]:
    params = {"mu": jnp.zeros(self.shape[0]), "linear": self.new_W(step)}
    return params, self.optimizer.init(params)

  def losses(self, data: MaskData, W_KxFxD, gate_KxF, b_KxD, triples):
    """Of each environment, [K]."""
    loss = functools.partial(
      invrl.environment_loss,
      self.model,
      data.frozen,
      data.inputs,
      self.settings,
    )
    return jax.vmap(loss)(W_KxFxD, gate_KxF, b_KxD, triples)

  def cluster(self, state: TrainState, data: MaskData, triples, place, key):
    """A step of each environment's W; at the end of a pass, who goes where."""
    del key
    extra: Environments = state.extra
    nets: TrainState = _when(
      place % self.pass_steps == 0,
      lambda _: self.new_nets(state.step),
      extra.nets,
    )

    def total(params):
      W_KxFxD, open_KxF = params["linear"], jnp.ones(params["linear"].shape[:2])
      loss_K = self.losses(data, W_KxFxD, open_KxF, params["bias"], triples)
      masked_K = jnp.abs(W_KxFxD * extra.mask_F[None, :, None]).mean(
        axis=(1, 2)
      )
      return (loss_K + self.own.l1 * masked_K).sum()

    loss, gradient = jax.value_and_grad(total)(nets.params)
    params, opt_state = descend(self.optimizer, nets, gradient)
    nets = TrainState(nets.step + 1, params, opt_state)
    extra = _when(
      (place + 1) % self.pass_steps == 0,
      lambda e: e.assign(best_environment(self.model, data, params)),
      extra.replace(nets=nets),  # type: ignore
    )
    metrics = {"loss": loss / len(extra.size_K), "penalty": jnp.float32(0)}
    return state.replace(extra=extra), metrics  # type: ignore

  def learn_mask(self, state: TrainState, data: MaskData, triples, place, key):
    """A step of the mask and of the one W behind it."""
    extra: Environments = state.extra
    params, opt_state = _when(
      place == self.cluster_steps,
      lambda _: self.new_mask(state.step),
      (state.params, state.opt_state),
    )
    state = state.replace(params=params, opt_state=opt_state)  # type: ignore
    K, (F, D) = len(extra.size_K), self.shape
    noise_KxF = self.own.sigma * jax.random.normal(key, (K, F))
    growth = self.own.growth ** (state.step // self.round_steps)

    def losses(W_KxFxD, mu_KxF):
      gate_KxF = invrl.gate(mu_KxF + noise_KxF)
      return self.losses(data, W_KxFxD, gate_KxF, jnp.zeros((K, D)), triples)

    def total(params):
      return invrl.invariance_loss(
        losses,
        params["linear"],
        params["mu"],
        extra.size_K > 0,
        self.own.alpha * growth,
        self.own.lam * growth,
      )

    gradient, metrics = jax.grad(total, has_aux=True)(state.params)
    params, opt_state = descend(self.optimizer, state, gradient)
    extra = extra.replace(mask_F=invrl.gate(params["mu"]))  # type: ignore
    return TrainState(state.step, params, opt_state, extra), metrics

  def init(self) -> TrainState:
    extra = Environments(
      of_E=jnp.zeros(self.edges, jnp.int32),
      order_E=jnp.arange(self.edges),
      size_K=jnp.zeros(self.own.environments, jnp.int32),
      moved=jnp.float32(0),
      mask_F=jnp.zeros(self.shape[0]),
      nets=self.new_nets(0),
    )
    return new_state(*self.new_mask(0), extra)

  def step(self, state, data, planned, key, *, axis_name=None):
    del planned, axis_name
    own, place = self.own, state.step % self.round_steps
    random_key, draw_key, noise_key = jax.random.split(key, 3)
    extra: Environments = state.extra
    at_random_E = lambda: jax.random.randint(
      random_key, extra.of_E.shape, 0, own.environments
    )
    extra = _when(place == 0, lambda e: e.assign(at_random_E()), extra)
    triples = extra.draw(
      draw_key,
      data.inputs.interactions,
      own.batch_size,
      self.settings.negatives,
    )
    state, metrics = jax.lax.cond(
      place < self.cluster_steps,
      self.cluster,
      self.learn_mask,
      *(state.replace(extra=extra), data, triples, place, noise_key),
    )
    metrics = {
      "loss": metrics["loss"] / own.batch_size,
      "penalty": metrics["penalty"],
      "moved": state.extra.moved,
      "mask": state.extra.mask_F.mean(),
    }
    return state.replace(step=state.step + 1), metrics


def mask_task(
  name: str,
  model: invrl.InvRL,
  frozen: Any,
  inputs: Inputs,
  settings,
  key: jax.Array,
) -> Task:
  """Rounds of: `passes` over the environments, then the mask.

  The parameters are the mask's: mu [F], and W, `linear` [F, D]; those of the
  last epoch count. Every device does every step whole: the penalty is no sum
  over interactions, and this is the short part of the training.

  Args:
    frozen: pretrained parameters.
    settings: `config.model`.
  """
  data = MaskData(inputs, frozen)
  rounds = _Rounds(model, settings, data, key)
  samples = rounds.steps * rounds.own.batch_size * rounds.own.environments
  return Task(
    name,
    data,
    jax.jit(rounds.init),
    lambda data, key: (),
    rounds.step,
    validate=None,
    steps_per_epoch=rounds.steps,
    samples_per_epoch=samples,
  )


def mask_schedule(settings, train) -> Schedule:
  """All rounds, to their end; `settings` is `config.model.mask`."""
  epochs = settings.passes * settings.pass_epochs + settings.epochs
  epochs *= settings.rounds
  return Schedule(
    epochs,
    patience=epochs,
    steps_per_call=train.steps_per_call,
    checkpoint_seconds=train.checkpoint_seconds,
  )


def _when(condition: jax.Array, change: Callable, value: Any) -> Any:
  """`change(value)` if so, else `value`."""
  return jax.lax.cond(condition, change, lambda value: value, value)
