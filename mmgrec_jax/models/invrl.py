"""InvRL (Du et al. 2022, ACM MM): features that mean the same everywhere.

The recommender is UltraGCN (Mao et al. 2021, CIKM) with content: user vector
U_u, item vector [V_i ; W f_i + b], score their inner product. It is trained
three times over (training/invrl.py has the middle):

1. As it is. U and V stay frozen in what follows.
2. In rounds. *Environments*: each has a W of its own, learned on its own
   interactions; each interaction then moves to the environment that predicts it
   best. That is the public code's rule, and the same as the smallest loss: the
   loss of an interaction falls with its score. *Mask*: one W for all behind a
   gate on each feature, learned such that the gradient of W is the same in
   every environment.
3. From scratch, on features x mask. The mask stays soft.

Without features there is nothing to mask: InvRL is then UltraGCN without its
loss of items that occur together, which InvRL has not.

Where we depart from the public code (nickwzk/InvRL):
- It has, but never calls, what starts the environments' networks from the
  pretrained vectors: random ones are trained. Here they are the pretrained.
- Negatives are unseen items, as in UltraGCN; there, any item at all.
- The loss is a mean and its L2 a share an interaction, `l2`; there the L2 of
  the whole tables is added once to the sum over a batch. The two are equal when
  `l2` is 2 / (their batch size) times theirs. All phases have the same L2.
- Each step has as many interactions of each environment, drawn anew. A round
  has a fixed number of passes; there they end once fewer than 1% move.
- Scaled down from up to 10,000 network-epochs: 4 environments (10 there),
  2 rounds (5), 2 passes (10 at most) of 3 epochs (20), 8 epochs for the mask
  (40), at five times the learning rate; 20 negatives (50).
As there: in the first round no mask is known, so that the environments' L1 is
nil; `lam` pulls the mask to 1/2, not to 0.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mmgrec_jax.graph import degrees
from mmgrec_jax.models import collaborative as cf

small_normal = nn.initializers.normal(0.01)


def by_modality(
  rows_F: jax.Array, features: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
  """Cuts rows [F, …], one a feature, into those of each modality."""
  names = sorted(features)
  ends = np.cumsum([features[m].shape[1] for m in names])
  return dict(zip(names, jnp.split(rows_F, ends[:-1]), strict=True))


class InvRL(nn.Module):
  """UltraGCN with content; L2 on all of U, V, W and b.

  l2_item, l2_linear: weights of V's and of W's and b's, beside U's.
  """

  width: int
  l2_item: float = 2.0
  l2_linear: float = 1000.0

  @nn.compact
  def __call__(
    self, inputs: cf.Inputs, user_B: jax.Array, train: bool
  ) -> cf.Embedded:
    del train
    D, features = self.width, inputs.features
    user_shape = (inputs.n_users, 2 * D if features else D)
    U_UxC = self.param("user", small_normal, user_shape)
    V_IxD = self.param("item", small_normal, (inputs.n_items, D))
    item_IxC = V_IxD
    l2 = cf.half_square(U_UxC).sum()
    l2 += self.l2_item * cf.half_square(V_IxD).sum()
    if features:
      F = sum(x.shape[1] for x in features.values())
      W_FxD = self.param("linear", small_normal, (F, D))
      b_D = self.param("bias", nn.initializers.zeros, (D,))
      # By modality: features side by side would be a copy of them all.
      maps = by_modality(W_FxD, features)
      content_IxD = b_D[None] + sum(features[m] @ maps[m] for m in maps)
      item_IxC = jnp.concatenate([V_IxD, content_IxD], axis=1)
      l2 += self.l2_linear * cf.half_square(W_FxD.ravel(), b_D)
    zero = jnp.zeros
    return cf.Embedded(
      U_UxC[user_B], item_IxC, zero(len(user_B)), zero(len(V_IxD)), l2
    )


def ultragcn_objective(
  embedded: cf.Embedded, inputs: cf.Inputs, triples: cf.Triples, settings
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """UltraGCN's weighted cross-entropy and the L2; as `cf.ranking_objective`.

  An interaction weighs w1 + w2 b_u b_i, a negative w3 + w4 b_u b_j, with
  b_u = sqrt(d_u + 1) / d_u and b_i = 1 / sqrt(d_i + 1) of the degrees.
  """
  U, w = inputs.n_users, settings.weights
  degree_N = degrees(inputs.graph, U + inputs.n_items)
  d_U = jnp.maximum(degree_N[:U], 1)
  b_B = (jnp.sqrt(d_U + 1) / d_U)[triples.user_B]
  b_I = (degree_N[U:] + 1) ** -0.5
  i, j = triples.positive_B, triples.negative_BxJ
  u_BxD, item_IxD = embedded.user_BxD, embedded.item_IxD
  score_B = (u_BxD * item_IxD[i]).sum(axis=-1)
  score_BxJ = (u_BxD[:, None] * item_IxD[j]).sum(axis=-1)
  weight_B = w.w1 + w.w2 * b_B * b_I[i]
  weight_BxJ = w.w3 + w.w4 * b_B[:, None] * b_I[j]
  bce_B = weight_B * nn.softplus(-score_B)
  bce_B += (weight_BxJ * nn.softplus(score_BxJ)).mean(axis=1)
  sums = {
    "bce": (bce_B * triples.real_B).sum(),
    "l2": embedded.l2 * triples.real_B.sum(),
  }
  return sums["bce"] + settings.l2 * sums["l2"], sums


def environment_loss(
  model: InvRL,
  frozen: Any,
  inputs: cf.Inputs,
  settings,
  W_FxD: jax.Array,
  gate_F: jax.Array,
  b_D: jax.Array,
  triples: cf.Triples,
) -> jax.Array:
  """UltraGCN's loss summed over one environment's triples.

  Args:
    frozen: pretrained parameters, of which U and V are used.
    gate_F: on the features. Moved to the rows of W: the same, without a copy
      of all features.
  """
  params = {**frozen, "linear": gate_F[:, None] * W_FxD, "bias": b_D}
  embedded: Any = model.apply(
    {"params": params}, inputs, triples.user_B, train=True
  )
  l2 = model.l2_linear * cf.half_square(W_FxD.ravel(), b_D)
  total, _ = ultragcn_objective(
    embedded.replace(l2=l2), inputs, triples, settings
  )
  return total


def gate(mu: jax.Array) -> jax.Array:
  """The mask that mu stands for."""
  return jnp.clip(mu + 0.5, 0.0, 1.0)


def invariance_penalty(
  g_KxFxD: jax.Array, mu_F: jax.Array, real_K: jax.Array
) -> jax.Array:
  """|| (sum_e (g_e - mean g)^2) * (mu + 1/2) ||^2.

  Args:
    g_KxFxD: the gradient of W in each environment.
    real_K: False for environments without interactions.
  """
  real_Kx1x1 = real_K[:, None, None]
  mean_FxD = (g_KxFxD * real_Kx1x1).sum(axis=0) / real_K.sum()
  spread_FxD = ((g_KxFxD - mean_FxD[None]) ** 2 * real_Kx1x1).sum(axis=0)
  return ((spread_FxD * (mu_F[:, None] + 0.5)) ** 2).sum()


def invariance_loss(
  losses, W_FxD: jax.Array, mu_F: jax.Array, real_K: jax.Array, alpha, lam
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Mean loss of the environments + alpha penalty + lam |mu|^2.

  Its gradient is one of gradients: the penalty is of those of W.

  Args:
    losses: (W, mu) of each environment [K, …] -> their losses, one for each.

  Returns:
    it; the mean loss and the penalty alone.
  """
  copies = lambda a: jnp.broadcast_to(a, (len(real_K), *a.shape))
  mu_KxF = copies(mu_F)

  def total(W_KxFxD):
    loss_K = losses(W_KxFxD, mu_KxF)
    return loss_K.sum(), loss_K

  # Each loss depends on its own copy of W alone.
  g_KxFxD, loss_K = jax.grad(total, has_aux=True)(copies(W_FxD))
  mean = (loss_K * real_K).sum() / real_K.sum()
  penalty = invariance_penalty(g_KxFxD, mu_F, real_K)
  out = mean + alpha * penalty + lam * (mu_F**2).sum()
  return out, {"loss": mean, "penalty": penalty}
