"""LATTICE: item graphs mined from features (Zhang et al. 2021, MM)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmgrec_jax.graph import (
  layer_means,
  mean_with_itself,
  neighbour_sum,
  propagate,
)
from mmgrec_jax.models import collaborative as cf
from mmgrec_jax.nn import nearest
from mmgrec_jax.nn.nearest import SparseRows


class LATTICE(nn.Module):
  """LightGCN whose items also get h, from items with alike features.

  Per modality a graph S of the `neighbours` items of largest cosine similarity
  (an item is its own), of the features once, and of a linear
  map of them anew at the first step of an epoch and for evaluation.
  With a softmax over modalities, w, the graph is
    original * sum w_m norm(S_m) + (1 - original) * norm(sum w_m S~_m),
  norm(S) = D^-1/2 S D^-1/2; h is `item_layers` steps over it
  and is added, as a row of norm 1, to LightGCN's items.

  Only that first step has a gradient for the map and w, as in the public code:
  the graph is constant in the others, in the collection `state`.

  Where the paper and its public code differ:
    laplacian: `symmetric` is LightGCN's, which the paper names; the code's
      `row_self_loops` is D^-1 (A + I), of A with self loops.
    trainable_features: False is the paper's; the code trains them, which moves
      the learned graphs, not those of the features.
  L2 is on the vectors that are scored, as in the code. Not taken over: its
  decay of the learning rate, and its dense matrices.

  Of neither, and MMGRec's: `users` = history has in the place of LightGCN a row
  for each user, plus the mean of a second table over the user's items (SVD++,
  Koren 2008). In training the item to learn is left out of that mean: it will
  not be there either when it is to be recommended.
  """

  width: int
  layers: int = 2
  item_layers: int = 1
  neighbours: int = 10
  original: float = 0.9
  laplacian: str = "symmetric"
  trainable_features: bool = False
  users: str = "graph"

  def prepare(self, inputs: cf.Inputs) -> dict[str, SparseRows]:
    """norm(S_m) of the features, by modality."""
    graph_of = lambda x: nearest.normalise_rows(self._similar(x))
    return {m: jax.jit(graph_of)(x) for m, x in inputs.features.items()}

  @nn.compact
  def __call__(
    self, inputs: cf.Inputs, user_B: jax.Array, train: bool
  ) -> cf.Embedded:
    shape = lambda rows: (rows, self.width)
    user_UxD = self.param("user", cf.xavier_uniform, shape(inputs.n_users))
    item_IxD = self.param("item", cf.xavier_uniform, shape(inputs.n_items))
    if self.users == "history":
      said_IxD = self.param("said", cf.xavier_uniform, shape(inputs.n_items))
      user_BxD = user_UxD[user_B] + _mean_of_history(inputs, user_B, said_IxD)
      out_IxD = item_IxD
    else:
      user_UxD, out_IxD = self._over_graph(inputs.graph, user_UxD, item_IxD)
      user_BxD = user_UxD[user_B]
    if inputs.features:
      out_IxD += cf.normalise(self._over_item_graph(inputs, item_IxD, train))
    return cf.of_outputs(user_BxD, out_IxD)

  def _over_graph(self, graph, user_UxD, item_IxD):
    """LightGCN's vectors."""
    step = propagate if self.laplacian == "symmetric" else mean_with_itself
    h_NxD = jnp.concatenate([user_UxD, item_IxD])
    mean_NxD = layer_means(graph, h_NxD, self.layers, step)[-1]
    return mean_NxD[: len(user_UxD)], mean_NxD[len(user_UxD) :]

  def _over_item_graph(self, inputs, h_IxD, train):
    """`item_layers` steps over the item graph, rebuilt where that is due."""
    weight_M = self.param(
      "modal_weight", nn.initializers.ones, (len(inputs.features),)
    )
    projections = {
      m: self._projection(m, x) for m, x in sorted(inputs.features.items())
    }

    def fresh():
      return self._mine(inputs.prepared, projections, nn.softmax(weight_M))

    def spread(graph):
      h = h_IxD
      for _ in range(self.item_layers):
        h = nearest.multiply(graph, h)
      return h, jax.lax.stop_gradient(graph)

    if not train and not self.is_initializing():
      return spread(fresh())[0]
    stored = self.variable("state", "item_graph", fresh)
    # With the multiplication inside, other steps have no gradient to compute
    # for the graph.
    h_IxD, stored.value = jax.lax.cond(
      inputs.epoch_starts,
      lambda: spread(fresh()),
      lambda: spread(jax.lax.stop_gradient(stored.value)),
    )
    return h_IxD

  def _projection(self, name, x_IxF):
    """Features and the linear map of them: x, W [F, D], b [D]."""
    if self.trainable_features:
      x_IxF = self.param(f"{name}_features", lambda _: x_IxF)
    shape = (x_IxF.shape[1], self.width)
    W = self.param(f"{name}_kernel", cf.xavier_uniform, shape)
    return (
      x_IxF,
      W,
      self.param(f"{name}_bias", nn.initializers.zeros, shape[1:]),
    )

  def _similar(self, x_IxF):
    """S: the nearest items and their cosines."""
    return nearest.most_alike(cf.normalise(x_IxF), self.neighbours)

  def _mine(self, of_features, projections, share_M):
    """The item graph."""
    learned = nearest.normalise_rows(
      nearest.weighted_sum(
        [
          (share, self._similar(x @ W + b[None]))
          for share, (x, W, b) in zip(
            share_M, projections.values(), strict=True
          )
        ]
      )
    )
    shares = zip(share_M, projections, strict=True)
    return nearest.weighted_sum(
      [
        (1 - self.original, learned),
        *((self.original * share, of_features[m]) for share, m in shares),
      ]
    )


def _mean_of_history(inputs, user_B, said_IxD):
  """Mean row of each user's items, but for the item to learn. [B, D]."""
  known = inputs.interactions
  no_user_UxD = jnp.zeros((inputs.n_users, said_IxD.shape[1]))
  sum_NxD = neighbour_sum(
    inputs.graph, jnp.concatenate([no_user_UxD, said_IxD])
  )
  sum_BxD = sum_NxD[user_B]
  items_B = known.offset[user_B + 1] - known.offset[user_B]
  if inputs.edge_B is not None:
    sum_BxD -= said_IxD[known.item_E[inputs.edge_B]]
    items_B -= 1
  return sum_BxD / jnp.maximum(items_B, 1)[:, None]
