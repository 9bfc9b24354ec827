"""Graph RQ-VAE (paper eq. 4-10): item vectors, user vectors, semantic tokens.

Two modules, because eq. 10 is optimised alternately: `GraphEncoder` learns h
from interactions, `RQVAE` learns to write h in three codewords.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from mmgrec_jax.data.neighbours import Neighbourhood
from mmgrec_jax.graph import Fan, Graph
from mmgrec_jax.nn import quantizer
from mmgrec_jax.nn.dropout import Dropout
from mmgrec_jax.nn.graph_conv import GraphConv

xavier = nn.initializers.xavier_uniform()


class GraphEncoder(nn.Module):
  """Eq. 4-5: a GCN over the bipartite graph fuses features with interactions.

  Attributes:
    width: D, the width of h.
    layers: graph convolutions; all but the last keep width 2D.
    dropout: rate between layers.
    last_activation: LeakyReLU after the last layer too, as eq. 5 is written.
  """

  n_users: int
  n_items: int
  width: int
  layers: int = 2
  dropout: float = 0.0
  last_activation: bool = True

  @nn.compact
  def __call__(
    self,
    graph: Graph | Neighbourhood,
    features_IxF: jax.Array,
    train: bool,
  ) -> tuple[jax.Array, jax.Array]:
    """Returns h_user [U, D] and h_item [I, D], float32.

    Of a `Neighbourhood`, those of its batch alone.
    """
    chex.assert_shape(features_IxF, (self.n_items, None))
    cf_IxD = self.param("item_cf", xavier, (self.n_items, self.width))
    user_Ux2D = self.param("user", xavier, (self.n_users, 2 * self.width))
    fans: tuple[Graph | Fan, ...]
    nodes: list[jax.Array | None] = [None] * self.layers
    if not isinstance(graph, Neighbourhood):
      fans, n_users = (graph,) * self.layers, self.n_users
    else:
      fans, n_users = graph.fans, len(graph.fans[-1].real_UxF)
      nodes = [graph.nodes(fan, self.n_users) for fan in graph.fans]
      user_Ux2D = user_Ux2D[graph.user_S]
      features_IxF, cf_IxD = features_IxF[graph.item_S], cf_IxD[graph.item_S]
    multimodal_IxD = nn.Dense(
      self.width, use_bias=False, kernel_init=xavier, name="W"
    )(features_IxF)
    item_Ix2D = jnp.concatenate([multimodal_IxD, cf_IxD], axis=1)
    h = jnp.concatenate([user_Ux2D, item_Ix2D])
    for layer, (fan, node_N) in enumerate(zip(fans, nodes, strict=True), 1):
      last = layer == self.layers
      h = GraphConv(self.width if last else 2 * self.width)(fan, h)
      if not last or self.last_activation:
        h = nn.leaky_relu(h, 0.01)
      if not last:
        h = Dropout(self.dropout)(h, not train, node_N)
    return h[:n_users], h[n_users:]


class RQVAE(nn.Module):
  """Eq. 6-9: two-layer encoder, residual quantizer, two-layer decoder.

  Attributes:
    hidden, latent: widths of the MLPs and of a codeword.
    levels: M - 1 codebooks of `codebook_size` codewords each.
  """

  hidden: int
  latent: int
  levels: int
  codebook_size: int

  @nn.compact
  def __call__(
    self, h_BxD: jax.Array
  ) -> tuple[jax.Array, jax.Array, quantizer.Quantized]:
    """Returns z [B, latent], the reconstruction of h [B, D], the codewords."""
    dense = lambda width, name: nn.Dense(width, kernel_init=xavier, name=name)
    hidden = nn.relu(dense(self.hidden, "encoder_1")(h_BxD))
    z_BxZ = dense(self.latent, "encoder_2")(hidden)
    codebooks_MxLxZ = self.param(
      "codebooks",
      nn.initializers.variance_scaling(1.0, "fan_in", "uniform"),
      (self.levels, self.codebook_size, self.latent),
    )
    quantized = quantizer.residual_quantize(z_BxZ, codebooks_MxLxZ)
    through = quantizer.straight_through(z_BxZ, quantized.z_hat_BxD)
    hidden = nn.relu(dense(self.hidden, "decoder_1")(through))
    h_hat_BxD = dense(h_BxD.shape[-1], "decoder_2")(hidden)
    return z_BxZ, h_hat_BxD, quantized


def rqvae_loss(
  model: RQVAE, params, h_BxD: jax.Array, beta: float
) -> tuple[jax.Array, tuple[dict, quantizer.Quantized]]:
  """Eq. 10's second term of each row of the batch. [B].

  The target h is stop-gradient: otherwise the loss shrinks h, which collapses.

  Returns:
    loss, and as auxiliary its terms, [B] too, and the quantizer's choices.
  """
  h_BxD = jax.lax.stop_gradient(h_BxD)
  out: Any = model.apply({"params": params}, h_BxD)
  _, h_hat_BxD, quantized = out
  reconstruction = ((h_BxD - h_hat_BxD) ** 2).sum(axis=1)
  codebook = quantizer.commitment_loss(quantized, beta)
  terms = {"reconstruction": reconstruction, "codebook": codebook}
  return reconstruction + codebook, (terms, quantized)
