"""NGCF: neural graph collaborative filtering (Wang et al. 2019, SIGIR)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmgrec_jax.graph import mean_with_itself, propagate
from mmgrec_jax.models import collaborative as cf
from mmgrec_jax.nn.dropout import Dropout


class NGCF(nn.Module):
  """E_{k+1} = LeakyReLU((L + I) E_k W1 + L E_k * E_k W2) (eq. 7), then message
  dropout; the vectors are E_0 … E_K side by side (eq. 9). As the public code
  alone has it: biases, and rows of all but E_0 scaled to norm 1. L2 on the
  batch's vectors.

  `laplacian` "symmetric" is the paper's L = D^-1/2 A D^-1/2 (eq. 8). The public
  code has "row": (D + I)^-1 (A + I) in both terms, without a further I.
  `activation` of the "sum" is the paper's, of each of the "terms" the code's.
  """

  width: int
  layers: int = 3
  laplacian: str = "symmetric"
  activation: str = "sum"
  dropout: float = 0.1

  @nn.compact
  def __call__(
    self, inputs: cf.Inputs, user_B: jax.Array, train: bool
  ) -> cf.Embedded:
    U, N = inputs.n_users, inputs.n_users + inputs.n_items
    dense = lambda name: nn.Dense(
      self.width, kernel_init=cf.xavier_uniform, name=name
    )
    leaky = lambda h: nn.leaky_relu(h, 0.2)
    e_NxD = self.param("embedding", cf.xavier_uniform, (N, self.width))
    parts = [e_NxD]
    for k in range(1, self.layers + 1):
      near_NxD, self_and_near_NxD = self.laplacian_times(inputs.graph, e_NxD)
      one_NxD = dense(f"W1_{k}")(self_and_near_NxD)
      two_NxD = dense(f"W2_{k}")(near_NxD * e_NxD)
      if self.activation == "sum":
        e_NxD = leaky(one_NxD + two_NxD)
      else:
        e_NxD = leaky(one_NxD) + leaky(two_NxD)
      e_NxD = Dropout(self.dropout)(e_NxD, deterministic=not train)
      parts.append(cf.normalise(e_NxD))
    h_NxC = jnp.concatenate(parts, axis=1)
    return cf.of_outputs(h_NxC[:U][user_B], h_NxC[U:])

  def laplacian_times(self, graph, e_NxD):
    """L E and what W1 is applied to."""
    if self.laplacian == "symmetric":
      near_NxD = propagate(graph, e_NxD)
      return near_NxD, near_NxD + e_NxD
    mean_NxD = mean_with_itself(graph, e_NxD)
    return mean_NxD, mean_NxD
