"""GRCN: a graph convolution on a refined graph (Wei et al. 2020, MM)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmgrec_jax.edges import edge_dot, edge_sum
from mmgrec_jax.graph import segment_softmax
from mmgrec_jax.models import collaborative as cf


class GRCN(nn.Module):
  """By modality, users' preferences p are found among their items' features f
  by `routing` rounds of attention; attention both ways then says how well each
  interaction fits the content, which weighs it in a convolution of ids.

  Routing: p <- p + sum over a user's items of alpha f, alpha = softmax(p . f),
  all of unit length. Content vectors: the same once more, at both ends, with
  no scaling. An edge's weight is the largest of alpha * confidence of its
  sender over modalities, `hard` pruning: or 0. Ids: E_0 + … + E_K by sums over
  weighted edges. The vectors are [ids | content of each modality].

  The public code routes to items and then keeps only users' sums, which makes
  all rounds do nothing: `routing_target="item"`. Its L2 is a mean over
  elements; here it is the squared norm of a triple's rows of E_0 and p.

  An epoch takes several times LightGCN's: each round and modality is a dot and
  a weighted sum over all interactions, and so is each of their gradients.

  Attributes:
    layers: K.
  """

  width: int
  layers: int = 2
  routing: int = 3
  routing_target: str = "user"
  pruning: str = "hard"

  @nn.compact
  def __call__(
    self, inputs: cf.Inputs, user_B: jax.Array, train: bool
  ) -> cf.Embedded:
    del train
    U, N = inputs.n_users, inputs.n_users + inputs.n_items
    user_E, item_E = inputs.interactions.user_E, inputs.interactions.item_E
    to_users = lambda weight, h: edge_sum(weight, h, item_E, user_E, U)
    to_items = lambda weight, h: edge_sum(weight, h, user_E, item_E, N - U)

    preferences, features = [], []
    for name, f_IxF in inputs.modalities.items():
      features.append(
        nn.leaky_relu(nn.Dense(self.width, name=f"map_{name}")(f_IxF))
      )
      p_UxD = self.param(
        f"preference_{name}", cf.xavier_normal, (U, self.width)
      )
      preferences.append(p_UxD)
    p_UxMxD = cf.normalise(jnp.stack(preferences, axis=1))
    f_IxMxD = cf.normalise(jnp.stack(features, axis=1))

    fit = lambda p_UxMxD: edge_dot(p_UxMxD, f_IxMxD, user_E, item_E)
    if self.routing_target == "user":
      for _ in range(self.routing):
        alpha_ExM = segment_softmax(fit(p_UxMxD), user_E, U)
        p_UxMxD = cf.normalise(p_UxMxD + to_users(alpha_ExM, f_IxMxD))
    fit_ExM = fit(p_UxMxD)
    to_user_ExM = segment_softmax(fit_ExM, user_E, U)
    to_item_ExM = segment_softmax(fit_ExM, item_E, N - U)
    content_UxMxD = p_UxMxD + to_users(to_user_ExM, f_IxMxD)
    content_IxMxD = f_IxMxD + to_items(to_item_ExM, p_UxMxD)

    def weigh(alpha_ExM, confidence_ExM):
      weight_Ex1 = (alpha_ExM * confidence_ExM).max(axis=1, keepdims=True)
      return nn.relu(weight_Ex1) if self.pruning == "hard" else weight_Ex1

    M = len(features)
    confidence = self.param("confidence", cf.xavier_normal, (N, M))
    to_user_Ex1 = weigh(to_user_ExM, confidence[U:][item_E])
    to_item_Ex1 = weigh(to_item_ExM, confidence[:U][user_E])

    ids = self.param("id", cf.xavier_normal, (N, self.width))
    e_user, e_item = jnp.split(cf.normalise(ids)[:, None], [U])
    sum_user, sum_item = e_user, e_item
    for _ in range(self.layers):
      e_user, e_item = (
        to_users(to_user_Ex1, e_item), to_items(to_item_Ex1, e_user)
      )  # fmt: skip
      sum_user, sum_item = sum_user + e_user, sum_item + e_item

    join = lambda *parts_RxMxD: jnp.concatenate(parts_RxMxD, axis=1)
    h_UxC = join(sum_user, content_UxMxD).reshape(U, -1)
    h_IxC = join(sum_item, content_IxMxD).reshape(N - U, -1)
    return cf.Embedded(
      h_UxC[user_B],
      h_IxC,
      cf.half_square(ids[:U], *preferences)[user_B],
      cf.half_square(ids[U:]),
    )
