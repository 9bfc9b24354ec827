"""One graph convolution layer (paper eq. 5)."""

import jax
from flax import linen as nn

from mmgrec_jax.graph import Fan, Graph, neighbour_mean, receivers


class GraphConv(nn.Module):
  """h W1 + mean of neighbours' h W2, before the activation of eq. 5.

  The mean is linear, so W2 may be applied before or after it.
  """

  features: int
  use_bias: bool = False

  @nn.compact
  def __call__(self, graph: Graph | Fan, h_NxC: jax.Array) -> jax.Array:
    """[N, C] -> [N, features]; of a `Fan` only the receivers' rows."""
    dense = lambda name, use_bias=False: nn.Dense(
      self.features,
      use_bias=use_bias,
      kernel_init=nn.initializers.xavier_uniform(),
      name=name,
    )
    own_NxD = dense("W1", self.use_bias)(receivers(graph, h_NxC))
    return own_NxD + neighbour_mean(graph, h_NxC, dense("W2"))
