"""MMGCN: a graph convolution for each modality (Wei et al. 2019, MM)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmgrec_jax.graph import Graph, neighbour_mean
from mmgrec_jax.models import collaborative as cf


class ModalConv(nn.Module):
  """h = LReLU(mean of neighbours' x W): aggregation (eq. 2).
  x^ = LReLU(x U + c) + id: the node itself and what modalities share (eq. 3).
  LReLU([h | x^] G + g): combination by concatenation (eq. 4).
  """

  width: int

  @nn.compact
  def __call__(self, graph: Graph, x_NxC: jax.Array, id_NxD: jax.Array):
    """[N, C] -> [N, D]."""
    dense = lambda features, name, bias=True: nn.Dense(
      features, use_bias=bias, kernel_init=cf.xavier_normal, name=name
    )
    W = dense(x_NxC.shape[1], "W", bias=False)
    h_NxC = nn.leaky_relu(neighbour_mean(graph, x_NxC, W))
    own_NxD = nn.leaky_relu(dense(self.width, "U")(x_NxC)) + id_NxD
    joined = jnp.concatenate([h_NxC, own_NxD], axis=1)
    return nn.leaky_relu(dense(self.width, "G")(joined))


class MMGCN(nn.Module):
  """By modality, starts from unit rows [p_u; f_i], where users' p are learned,
  goes through `layers` of `ModalConv`; the vectors are the means over
  modalities (eq. 5). L2 on a triple's rows of id and p.

  The public code differs: its id and p are random and never trained, as they
  are no registered parameters (`train_tables=False`); its L2 is a mean over
  elements, of id and of the visual p only; and it maps the visual features
  alone, to 256, where here any that are wider than `latent` are mapped.

  An epoch takes several times LightGCN's: every step maps all nodes through
  four dense matrices a layer and modality.

  Attributes:
    latent: modalities wider than this are first mapped to it.
    train_tables: train id and p, or leave them as initialised.
  """

  width: int
  layers: int = 3
  latent: int = 64
  train_tables: bool = True

  @nn.compact
  def __call__(
    self, inputs: cf.Inputs, user_B: jax.Array, train: bool
  ) -> cf.Embedded:
    del train
    U, N = inputs.n_users, inputs.n_users + inputs.n_items

    def table(name, rows, columns):
      table = self.param(name, cf.xavier_normal, (rows, columns))
      return table if self.train_tables else jax.lax.stop_gradient(table)

    id_NxD = table("id", N, self.width)
    modal, preferences = [], []
    for name, f_IxF in inputs.modalities.items():
      if f_IxF.shape[1] > self.latent:
        f_IxF = nn.Dense(self.latent, name=f"map_{name}")(f_IxF)
      p_UxF = table(f"preference_{name}", U, f_IxF.shape[1])
      x_NxC = cf.normalise(jnp.concatenate([p_UxF, f_IxF]))
      for layer in range(self.layers):
        conv = ModalConv(self.width, name=f"{name}_{layer}")
        x_NxC = conv(inputs.graph, x_NxC, id_NxD)
      modal.append(x_NxC)
      preferences.append(p_UxF)

    mean_NxD = jnp.stack(modal).mean(axis=0)
    return cf.Embedded(
      mean_NxD[:U][user_B],
      mean_NxD[U:],
      cf.half_square(id_NxD[:U], *preferences)[user_B],
      cf.half_square(id_NxD[U:]),
    )
