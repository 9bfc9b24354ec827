"""What all models that embed users and items for an inner product share.

A model is a Flax module; `__call__(inputs, user_B, train)` gives `Embedded`.
It may keep what changes by epoch in the variable collection `state`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from mmgrec_jax.data import sampling
from mmgrec_jax.graph import Graph

xavier_uniform = nn.initializers.xavier_uniform()
xavier_normal = nn.initializers.xavier_normal()


@struct.dataclass
class Inputs:
  """What a model may read.

  graph: training interactions, each in both directions.
  features: normalised, float32 [I, F_m] by modality; any number of them.
  interactions: the same by user, for attention over edges and histories.
  epoch_starts: bool, is this the first step of an epoch?
  edge_B: in training, the interactions to learn, as places in user_E; -1 =
    padding.
  row_B: in training, of these in all devices' batch.
  prepared: what the model makes of the others once, see `prepare`.
  """

  graph: Graph
  features: Mapping[str, jax.Array]
  interactions: sampling.Interactions
  epoch_starts: jax.Array
  edge_B: jax.Array | None = None
  row_B: jax.Array | None = None
  prepared: Any = None

  @property
  def n_users(self) -> int:
    return len(self.interactions.offset) - 1

  @property
  def n_items(self) -> int:
    return self.interactions.n_items

  @property
  def modalities(self) -> Mapping[str, jax.Array]:
    """Features by name; without any, one that says nothing: 1 for each item."""
    nothing = {"nothing": jnp.ones((self.n_items, 1))}
    return dict(sorted(self.features.items())) or nothing


@struct.dataclass
class Embedded:
  """Vectors whose inner product is the score, and what is to be kept small.

  user_BxD: of the users asked for.  item_IxD: of all items.
  l2_user_B, l2_item_I: half the squared norm of what each row should keep
    small; counted where a row takes part in a triple.
  l2: more of the same, independent of the triples.
  """

  user_BxD: jax.Array
  item_IxD: jax.Array
  l2_user_B: jax.Array
  l2_item_I: jax.Array
  l2: jax.Array | float = 0.0


@struct.dataclass
class Triples:
  """A batch: users [B], items they have [B], items they have not [B, J].

  real_B: False where the batch is only filled up.
  """

  user_B: jax.Array
  positive_B: jax.Array
  negative_BxJ: jax.Array
  real_B: jax.Array


def prepare(model: nn.Module, inputs: Inputs) -> Inputs:
  """With what `model.prepare(inputs)`, where there is one, makes of them."""
  make = getattr(model, "prepare", None)
  if make is None:
    return inputs
  return inputs.replace(prepared=make(inputs))  # type: ignore


def half_square(*tables: jax.Array) -> jax.Array:
  """Half the squared norm of each row, summed over tables [R, ...]. [R]."""
  return sum(0.5 * (t**2).sum(axis=-1) for t in tables)  # type: ignore


def normalise(x: jax.Array) -> jax.Array:
  """Rows of norm 1; a row of zeros stays, with no gradient."""
  square = (x**2).sum(axis=-1, keepdims=True)
  scale = jax.lax.rsqrt(jnp.maximum(square, 1e-24))
  # Not 1e12 of it, which clipping would leave of a step instead of all others.
  return x * jnp.where(square > 1e-24, scale, 0.0)


def of_outputs(user_BxD: jax.Array, item_IxD: jax.Array) -> Embedded:
  """Vectors that are themselves to be kept small."""
  return Embedded(
    user_BxD, item_IxD, half_square(user_BxD), half_square(item_IxD)
  )


def bpr_loss(
  h_user_BxD: jax.Array, h_pos_BxD: jax.Array, h_neg_BxD: jax.Array
) -> jax.Array:
  """-ln sigmoid of the margin of each triple (Rendle et al. 2009), [B]."""
  margin = (h_user_BxD * (h_pos_BxD - h_neg_BxD)).sum(axis=-1)
  return nn.softplus(-margin)


def softmax_loss(
  h_user_BxD: jax.Array, h_pos_BxD: jax.Array, h_neg_BxJxD: jax.Array
) -> jax.Array:
  """-ln of the positive's share in a softmax with its J negatives, [B].

  With one negative it is BPR's.
  """
  pos_Bx1 = (h_user_BxD * h_pos_BxD).sum(axis=-1, keepdims=True)
  neg_BxJ = jnp.einsum("bd,bjd->bj", h_user_BxD, h_neg_BxJxD)
  logits = jnp.concatenate([jnp.zeros_like(pos_Bx1), neg_BxJ - pos_Bx1], axis=1)
  return nn.logsumexp(logits, axis=1)


def ranking_objective(
  embedded: Embedded, inputs: Inputs, triples: Triples, settings
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """`settings.loss` and the penalty, summed over a batch; its mean is the loss.

  Returns:
    the sum, and its parts.
  """
  del inputs
  i, j = triples.positive_B, triples.negative_BxJ
  item_IxD, l2_I = embedded.item_IxD, embedded.l2_item_I
  user_BxD, pos_BxD, neg_BxJxD = embedded.user_BxD, item_IxD[i], item_IxD[j]
  if settings.loss == "softmax":
    loss_B = softmax_loss(user_BxD, pos_BxD, neg_BxJxD)
  else:
    loss_B = bpr_loss(user_BxD[:, None], pos_BxD[:, None], neg_BxJxD).mean(
      axis=1
    )
  l2_B = embedded.l2_user_B + l2_I[i] + l2_I[j].mean(axis=1) + embedded.l2
  sums = {
    settings.loss: (loss_B * triples.real_B).sum(),
    "l2": (l2_B * triples.real_B).sum(),
  }
  return sums[settings.loss] + settings.l2 * sums["l2"], sums


def embed_everyone(
  model: nn.Module, params: Any, inputs: Inputs
) -> tuple[jax.Array, jax.Array]:
  """Vectors of all users and items, as they are without dropout."""
  everyone_U = jnp.arange(inputs.n_users)
  out: Any = model.apply({"params": params}, inputs, everyone_U, train=False)
  return out.user_BxD, out.item_IxD
