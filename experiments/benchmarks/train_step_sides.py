"""Both sides of `train_step`: the same work for our generator and PyTorch's."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmgrec_jax.data.dataset import Rows
from mmgrec_jax.decoding.trie import build_trie
from mmgrec_jax.models.generator import Generator, Vectors
from mmgrec_jax.recid.assign import RecIds, assign_rec_ids
from mmgrec_jax.training.generating import (
  GeneratorData,
  generator_data,
  generator_loss,
)
from mmgrec_jax.training.state import TrainState, new_state

LEVELS = 4
RATE, MOMENTUM, WEIGHT_DECAY = 1e-3, 0.99, 1e-5


class Sizes(NamedTuple):
  """width: of embeddings, of each head and of the feed-forward.

  codes: of each semantic level; S and E come on top.
  histories: B by T.  published_batch: B of the reference's trainer.
  """

  items: int
  users: int
  codes: int
  width: int
  heads: int
  layers: int
  history: int
  histories: dict[int, int]
  published_batch: int

  @property
  def vocabulary(self) -> int:
    return self.codes + 2


class Batch(NamedTuple):
  """int32: users [B], histories [B, N] (-1 = padding), targets [B, T]."""

  user_B: Any
  history_BxN: Any
  target_BxT: Any


def draw_batch(sizes: Sizes, B: int, T: int) -> Batch:
  rng = np.random.default_rng(T)
  N = sizes.history
  item_BxA = np.stack(
    [rng.choice(sizes.items, N + T, replace=False) for _ in range(B)]
  ).astype(np.int32)
  real_BxN = np.arange(N) < rng.integers(1, N + 1, B)[:, None]
  return Batch(
    rng.integers(0, sizes.users, B, dtype=np.int32),
    np.where(real_BxN, item_BxA[:, :N], -1),
    item_BxA[:, N:],
  )


def make_rec_ids(sizes: Sizes) -> RecIds:
  """Random ones, said to have the same vocabulary at every level."""
  rng = np.random.default_rng(0)
  semantic = rng.integers(0, sizes.codes, (sizes.items, LEVELS - 1))
  ids = assign_rec_ids(semantic, sizes.codes, np.zeros(sizes.items, np.int32))
  return RecIds(ids.tokens_IxM, (sizes.vocabulary,) * LEVELS)


def make_data(sizes: Sizes, rec_ids: RecIds) -> GeneratorData:
  rng = np.random.default_rng(1)
  rows = lambda n: jnp.asarray(rng.normal(size=(n, sizes.width)), jnp.float32)
  vectors = Vectors(rows(sizes.users), rows(sizes.items))
  # A loss looks at vectors and trie only: batches are drawn beforehand.
  no_rows = Rows(np.zeros(2, np.int64), np.zeros(0, np.int64))
  return generator_data(vectors, build_trie(rec_ids), no_rows, 1, False)


def make_model(sizes: Sizes) -> Generator:
  return Generator(
    (sizes.vocabulary,) * LEVELS,
    n_items=sizes.items,
    width=sizes.width,
    trie_softmax=False,
    encoder_layers=sizes.layers,
    decoder_layers=sizes.layers,
    heads=sizes.heads,
    encoder_head_width=sizes.width,
    decoder_head_width=sizes.width,
    feed_forward=sizes.width,
    dropout=0.2,
  )


def our_step(
  model: Generator, params, data: GeneratorData, batch: Batch
) -> Callable[[], float]:
  """Trains by one step at each call, from `params` on; the loss."""
  optimizer = optax.chain(
    optax.add_decayed_weights(WEIGHT_DECAY), optax.sgd(RATE, MOMENTUM)
  )

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state, data, batch):
    key = jax.random.fold_in(jax.random.key(1), state.step)
    loss, gradient = jax.value_and_grad(mean_loss, argnums=1)(
      model, state.params, data, batch, key
    )
    updates, opt_state = optimizer.update(
      gradient, state.opt_state, state.params
    )
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state), loss

  params = jax.tree.map(jnp.copy, params)  # a step reuses their memory
  state = new_state(params, optimizer.init(params))
  batch = jax.device_put(batch)

  def run():
    nonlocal state
    state, loss = step(state, data, batch)
    jax.block_until_ready(state)
    return float(loss)

  return run


def mean_loss(
  model: Generator, params, data: GeneratorData, batch: Batch, key
) -> jax.Array:
  total, _ = generator_loss(model, params, data, *batch, key)
  return total / batch.target_BxT.size


class TorchSide(NamedTuple):
  """PyTorch, and where it runs: where JAX does."""

  torch: Any
  sizes: Sizes
  tokens_IxM: np.ndarray
  device: str

  def make_model(self, dropout: float = 0.2):
    from experiments.torch_reference.layers import Config
    from experiments.torch_reference.model import TorchMMGRec

    s = self.sizes
    config = Config(
      s.users,
      s.items,
      s.vocabulary,
      *(s.width, s.heads, s.width, s.width, s.layers, s.layers),
      dropout,
    )
    self.torch.manual_seed(0)
    return TorchMMGRec(config).to(self.device)

  def tensors(self, batch: Batch) -> list:
    """User, history and the targets' tokens, int64."""
    arrays = (*batch[:2], self.tokens_IxM[batch.target_BxT])
    return [self.torch.from_numpy(a).long().to(self.device) for a in arrays]

  def step(
    self,
    batch: Batch,
    compiled: bool,
    bfloat16: bool = False,
    levels_only: bool = True,
  ) -> Callable[[], float]:
    """Trains by one step at each call; the loss."""
    from experiments.torch_reference import train

    model = self.make_model()
    step = train.make_train_step(
      model, train.make_optimizer(model), compiled, levels_only
    )
    tensors = self.tensors(batch)
    dtype = self.torch.bfloat16

    def run():
      with self.torch.autocast(self.device, dtype, enabled=bfloat16):
        loss = step(*tensors)
      if self.device == "cuda":
        self.torch.cuda.synchronize()
      return loss.item()

    return run

  def loss_and_gradient(self, batch: Batch):
    """Without dropout: weights, loss and gradients, by name in NumPy."""
    from experiments.torch_reference import train

    model = self.make_model(dropout=0.0)
    loss = train.token_loss(model, *self.tensors(batch), levels_only=True)
    loss.backward()
    on_host = lambda tensor: tensor.detach().cpu().numpy()
    state = {name: on_host(w) for name, w in model.state_dict().items()}
    gradient = {
      name: on_host(p.grad)
      for name, p in model.named_parameters()
      if p.grad is not None
    }
    return state, loss.item(), gradient
