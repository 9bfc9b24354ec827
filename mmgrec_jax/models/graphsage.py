"""GraphSAGE with the mean of all neighbours (Hamilton et al. 2017, NeurIPS)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmgrec_jax.models import collaborative as cf
from mmgrec_jax.nn.dropout import Dropout
from mmgrec_jax.nn.graph_conv import GraphConv


class GraphSAGE(nn.Module):
  """h W1 + b + mean of neighbours' h W2 (alg. 1, the concatenation written as
  a sum), twice, LeakyReLU between; the last layer is the vector. L2 on the
  batch's vectors.

  The paper samples neighbours and scales vectors to norm 1; recommenders, and
  the layer MMGRec builds on, do neither. What goes in is not stated there
  either: `item_input` "id" is a table; "features" the joined features times
  W_f, as MMGRec's public encoder has them; "both" their sum.
  """

  width: int
  hidden: int = 64
  item_input: str = "id"
  dropout: float = 0.0  # between the layers
  output_dropout: float = 0.0

  @nn.compact
  def __call__(
    self, inputs: cf.Inputs, user_B: jax.Array, train: bool
  ) -> cf.Embedded:
    U = inputs.n_users
    drop = lambda rate, h: Dropout(rate)(h, deterministic=not train)
    layer = lambda width, name: GraphConv(width, use_bias=True, name=name)
    table = lambda name, rows: self.param(
      name, cf.xavier_uniform, (rows, self.hidden)
    )
    x_UxH = table("user", U)
    x_IxH = self._items(inputs, table)
    h_NxH = layer(self.hidden, "layer_1")(
      inputs.graph, jnp.concatenate([x_UxH, x_IxH])
    )
    h_NxH = drop(self.dropout, nn.leaky_relu(h_NxH, 0.01))
    h_NxD = layer(self.width, "layer_2")(inputs.graph, h_NxH)
    h_NxD = drop(self.output_dropout, h_NxD)
    return cf.of_outputs(h_NxD[:U][user_B], h_NxD[U:])

  def _items(self, inputs: cf.Inputs, table) -> jax.Array:
    """What goes in for items. [I, H]."""
    x_IxH = jnp.zeros((inputs.n_items, self.hidden))
    if self.item_input != "features":
      x_IxH += table("item", inputs.n_items)
    if self.item_input != "id":
      for name, x_IxF in sorted(inputs.features.items()):
        x_IxH += nn.Dense(self.hidden, use_bias=False, name=f"map_{name}")(
          x_IxF
        )
    return x_IxH
