"""LightGCN (He et al. 2020, SIGIR): propagation and nothing else."""

import jax
from flax import linen as nn

from mmgrec_jax.graph import layer_means
from mmgrec_jax.models import collaborative as cf


class LightGCN(nn.Module):
  """E_{k+1} = D^-1/2 A D^-1/2 E_k (eq. 7); the vectors are the mean of
  E_0 … E_K (eq. 8 with alpha_k = 1 / (K + 1)). L2 on rows of E_0 (eq. 15).
  """

  width: int
  layers: int = 3

  @nn.compact
  def __call__(
    self, inputs: cf.Inputs, user_B: jax.Array, train: bool
  ) -> cf.Embedded:
    del train
    U, N = inputs.n_users, inputs.n_users + inputs.n_items
    init = nn.initializers.normal(0.1)
    e_0 = self.param("embedding", init, (N, self.width))
    mean_NxD = layer_means(inputs.graph, e_0, self.layers)[-1]
    return cf.Embedded(
      mean_NxD[:U][user_B],
      mean_NxD[U:],
      cf.half_square(e_0[:U][user_B]),
      cf.half_square(e_0[U:]),
    )
