"""VBPR: visual Bayesian personalised ranking (He & McAuley 2016, AAAI)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmgrec_jax.models import collaborative as cf


class VBPR(nn.Module):
  """score = beta_i + gamma_u . gamma_i + theta_u . (E f_i) + beta' . f_i
  (eq. 4; alpha and beta_u cancel in BPR), with f_i all modalities joined.

  As an inner product: [gamma_u | theta_u | 1] . [gamma_i | E f_i | the rest].
  L2 on all of it (eq. 6); one weight where the paper allows one for each part.
  The first public code never trains beta_i (it changes a copy); here it is
  trained. MMRec's form is this one without beta_i and beta'; its bias on E f_i
  is the same for all items, so it cancels too.

  Attributes:
    content_width: of theta and E. `width` is that of gamma.
  """

  width: int
  content_width: int = 64

  @nn.compact
  def __call__(
    self, inputs: cf.Inputs, user_B: jax.Array, train: bool
  ) -> cf.Embedded:
    del train
    U, T = inputs.n_users, self.content_width
    f_IxF = jnp.concatenate(list(inputs.modalities.values()), axis=1)
    n_items, F = f_IxF.shape
    gamma_UxD = self.param("gamma_user", cf.xavier_normal, (U, self.width))
    gamma_IxD = self.param(
      "gamma_item", cf.xavier_normal, (n_items, self.width)
    )
    theta_UxT = self.param("theta", cf.xavier_normal, (U, T))
    E_FxT = self.param("E", cf.xavier_normal, (F, T))
    beta_I = self.param("beta", nn.initializers.zeros, (n_items,))
    beta_F = self.param("beta_content", nn.initializers.zeros, (F,))

    gamma_BxD, theta_BxT = gamma_UxD[user_B], theta_UxT[user_B]
    one_Bx1 = jnp.ones((len(user_B), 1))
    bias_Ix1 = (beta_I + f_IxF @ beta_F)[:, None]
    return cf.Embedded(
      jnp.concatenate([gamma_BxD, theta_BxT, one_Bx1], axis=1),
      jnp.concatenate([gamma_IxD, f_IxF @ E_FxT, bias_Ix1], axis=1),
      cf.half_square(gamma_BxD, theta_BxT),
      cf.half_square(gamma_IxD, beta_I[:, None]),
      cf.half_square(E_FxT.ravel(), beta_F),
    )
