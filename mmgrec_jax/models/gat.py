"""GAT: graph attention (Velickovic et al. 2018, ICLR)."""

import jax
from flax import linen as nn

from mmgrec_jax.models import collaborative as cf
from mmgrec_jax.nn.dropout import Dropout
from mmgrec_jax.nn.graph_attention import GraphAttention


class GAT(nn.Module):
  """Vectors of users and items through two layers of attention over neighbours
  and the node itself (eq. 1-5), LeakyReLU between; the last layer is the
  vector. L2 on the batch's vectors.

  The MMGRec paper trains it on interactions alone and says no more; two layers
  are our choice. Heads are side by side in the first layer, the last has one.

  An epoch takes several times LightGCN's: every edge has its own weight, made
  of both ends and normalised in each layer and step, where LightGCN's weights
  are fixed by the degrees.
  """

  width: int
  hidden: int = 64
  heads: int = 1
  dropout: float = 0.0

  @nn.compact
  def __call__(
    self, inputs: cf.Inputs, user_B: jax.Array, train: bool
  ) -> cf.Embedded:
    U, N = inputs.n_users, inputs.n_users + inputs.n_items
    x_NxH = self.param("embedding", cf.xavier_uniform, (N, self.hidden))
    h_NxH = GraphAttention(self.hidden, self.heads, name="layer_1")(
      inputs.graph, x_NxH
    )
    h_NxH = nn.leaky_relu(h_NxH, 0.01)
    h_NxH = Dropout(self.dropout)(h_NxH, deterministic=not train)
    h_NxD = GraphAttention(self.width, name="layer_2")(inputs.graph, h_NxH)
    return cf.of_outputs(h_NxD[:U][user_B], h_NxD[U:])
