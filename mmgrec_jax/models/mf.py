"""MF: matrix factorisation by BPR (Rendle et al. 2009, UAI)."""

import jax
from flax import linen as nn

from mmgrec_jax.models import collaborative as cf


class MF(nn.Module):
  """A vector for each user and item, no biases; score P_u . Q_i.

  The L2 is the squared norm of the batch's rows, as the paper has it; MMRec's
  public code takes the norm itself.
  """

  width: int

  @nn.compact
  def __call__(
    self, inputs: cf.Inputs, user_B: jax.Array, train: bool
  ) -> cf.Embedded:
    del train
    shape = lambda rows: (rows, self.width)
    P_UxD = self.param("user", cf.xavier_normal, shape(inputs.n_users))
    Q_IxD = self.param("item", cf.xavier_normal, shape(inputs.n_items))
    p_BxD = P_UxD[user_B]
    return cf.Embedded(
      p_BxD, Q_IxD, cf.half_square(p_BxD), cf.half_square(Q_IxD)
    )
