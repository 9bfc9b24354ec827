"""LightGT: a light transformer over histories (Wei et al. 2023, SIGIR)."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmgrec_jax.data import sampling
from mmgrec_jax.graph import layer_means
from mmgrec_jax.models import collaborative as cf

CHUNK = 512  # users encoded at a time


class LightGT(nn.Module):
  """LightGCN, and users read off the features of what they have chosen.

  M_l is the mean of LightGCN's E_0 … E_l. The score is
    id_share * M_L,u . M_L,i + (1 - id_share) * sum_m z^m_u . x^m_i:
  one inner product of long vectors. x^m = W^m f + b^m of the features f, rows
  of norm 1; z^m_u comes of the user's own token and x^m of up to
  `history_length` of their items, see `Encoder`.

  L2 is the mean square of all of M_L, as in the code. Where the paper and its
  public code differ:
    target_in_history: False; the code lets the item that is to be predicted be
      among those it is predicted from, in training.
    temperature: 1; the code divides queries by another 100, so that attention
      is almost a mean.
  All modalities count: the code scores the visual one only where another is
  missing. Histories are drawn anew for each step; for evaluation once and for
  all, where the code's change with every look. The code adds 1e-5 to the
  degrees and starts all layers alike; this does not.

  An epoch takes several times LightGCN's: for each user of a batch and each
  modality a transformer reads up to `history_length` items.
  """

  width: int
  layers: int = 2
  heads: int = 1
  history_length: int = 20
  id_share: float = 0.05
  dropout: float = 0.1
  temperature: float = 1.0
  target_in_history: bool = False

  @nn.compact
  def __call__(
    self, inputs: cf.Inputs, user_B: jax.Array, train: bool
  ) -> cf.Embedded:
    U, D = inputs.n_users, self.width
    user_UxD = self.param("user", cf.xavier_normal, (U, D))
    item_IxD = self.param("item", cf.xavier_normal, (inputs.n_items, D))
    e_NxD = jnp.concatenate([user_UxD, item_IxD])
    M = layer_means(inputs.graph, e_NxD, self.layers)
    users, items = M[-1][:U][user_B], M[-1][U:]
    l2 = (M[-1][:U] ** 2).mean() + (M[-1][U:] ** 2).mean()
    if inputs.features:
      z, x = self._content(inputs, user_B, M[1:], train)
      a, b = self.id_share**0.5, (1 - self.id_share) ** 0.5
      users = jnp.concatenate([a * users, *(b * z_BxD for z_BxD in z)], axis=1)
      items = jnp.concatenate([a * items, *(b * x_IxD for x_IxD in x)], axis=1)
    zeros = lambda like: jnp.zeros(len(like))
    return cf.Embedded(users, items, zeros(users), zeros(items), l2)

  def _content(self, inputs, user_B, M, train):
    """z^m [B, D] and x^m [I, D] of each modality."""
    row_B = jnp.arange(len(user_B)) if inputs.row_B is None else inputs.row_B
    U, D = inputs.n_users, self.width
    history_BxS = self._histories(inputs, user_B, train)
    # A user's own token is node u, item i is node U + i.
    node_BxT = jnp.concatenate([user_B[:, None], U + history_BxS], axis=1)
    valid_BxT = jnp.pad(
      history_BxS >= 0, [(0, 0), (1, 0)], constant_values=True
    )
    own_UxD = self.param("user_token", cf.xavier_normal, (U, D))
    z, x = [], []
    for m, f_IxF in sorted(inputs.features.items()):
      x.append(DenseOfUnitRows(D, name=f"{m}_linear")(f_IxF))
      position = nn.Dense(D, name=f"{m}_position")
      encoder = Encoder(
        self.layers,
        self.heads,
        self.temperature,
        self.dropout,
        name=f"{m}_encoder",
      )
      out_BxD = encoder(
        jnp.concatenate([own_UxD, x[-1]]),
        [nn.sigmoid(position(jax.lax.stop_gradient(M_l))) for M_l in M],
        node_BxT,
        valid_BxT,
        row_B,
        train,
      )
      z.append(nn.leaky_relu(nn.Dense(D, name=f"{m}_dense")(out_BxD)))
    return z, x

  def _histories(self, inputs, user_B, train):
    key = self.make_rng("dropout") if train else jax.random.key(0)
    left_out = None if self.target_in_history or not train else inputs.edge_B
    return sampling.draw_histories(
      key, inputs.interactions, user_B, self.history_length, left_out
    )


class DenseOfUnitRows(nn.Module):
  """A linear map of rows scaled to norm 1, without a scaled copy of them all:
  the features of a large catalogue are most of a step's memory.
  """

  width: int

  @nn.compact
  def __call__(self, x_RxF: jax.Array) -> jax.Array:
    """[R, F] -> [R, width]."""
    shape = (x_RxF.shape[1], self.width)
    kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
    bias = self.param("bias", nn.initializers.zeros, shape[1:])
    square_Rx1 = (x_RxF**2).sum(axis=1, keepdims=True)
    scale_Rx1 = jax.lax.rsqrt(jnp.maximum(square_Rx1, 1e-24))
    return (x_RxF @ kernel) * scale_Rx1 + bias[None]


class Encoder(nn.Module):
  """Layers of light self-attention: no residual, no feed-forward.

  h' = LayerNorm(attention of (h + r_l) to (h + r_l) over h). Heads are as wide
  as h and what they read is added up, so W^Q W^K^T and W^V W^O are one matrix
  each; b^K has no effect. Before the first layer a token is what its node is,
  so nodes are projected, not tokens. After the last only the user's own token
  counts.
  """

  layers: int
  heads: int
  temperature: float
  dropout: float

  @nn.compact
  def __call__(
    self,
    h_NxD: jax.Array,
    r: list[jax.Array],
    node_BxT: jax.Array,
    valid_BxT: jax.Array,
    row_B: jax.Array,
    train: bool,
  ) -> jax.Array:
    """The first token's output. [B, D].

    Args:
      h_NxD: what each node is before the first layer.
      r: of each layer, what is added to it for queries and keys. [N, D]
      node_BxT: the tokens.  valid_BxT: False for padding.
      row_B: for dropout, of these in all devices' batch.
    """
    L, A, D = self.layers, self.heads, h_NxD.shape[1]
    xavier = lambda *axes: nn.initializers.variance_scaling(
      1.0, "fan_avg", "uniform", batch_axis=axes
    )
    zeros, ones = nn.initializers.zeros, nn.initializers.ones
    # Of queries, keys and values; of what attention gives.
    W_3xLxAxDxD = self.param("kernel", xavier(0, 1, 2), (3, L, A, D, D))
    b_3xLxAxD = self.param("bias", zeros, (3, L, A, D))
    W_o_LxDxD = self.param("out_kernel", xavier(0), (L, D, D))
    b_o_LxD = self.param("out_bias", zeros, (L, D))
    scale_LxD = self.param("norm_scale", ones, (L, D))
    shift_LxD = self.param("norm_bias", zeros, (L, D))
    (W_q, W_k, W_v), (b_q, _, b_v) = W_3xLxAxDxD, b_3xLxAxD
    rate = self.dropout if train else 0.0
    who_asks = [slice(None)] * (L - 1) + [slice(1)]

    def queries(n, a, x_QxD):
      q_QxD = x_QxD @ (W_q[n, a] @ W_k[n, a].T) + (W_k[n, a] @ b_q[n, a])[None]
      return q_QxD / (D**0.5 * self.temperature)

    def values(n, a, h_QxD):
      return h_QxD @ (W_v[n, a] @ W_o_LxDxD[n])

    def attention(n, a, q_QxD, x_TxD, valid_T, key):
      p_QxT = nn.softmax(jnp.where(valid_T[None], q_QxD @ x_TxD.T, -jnp.inf))
      if not rate:
        return p_QxT
      key = jax.random.fold_in(key, n * A + a)
      keep_QxT = jax.random.bernoulli(key, 1 - rate, p_QxT.shape)
      return jnp.where(keep_QxT, p_QxT / (1 - rate), 0)

    def read(n, a, p_QxT, read_QxD):
      # Dropout leaves rows of p with other sums than 1.
      sum_Qx1 = p_QxT.sum(axis=1, keepdims=True)
      return read_QxD + sum_Qx1 * (b_v[n, a] @ W_o_LxDxD[n])[None]

    def finish(n, of_heads):
      out_QxD = sum(of_heads) + b_o_LxD[n][None]
      out_QxD = nn.standardize(out_QxD, axis=-1, epsilon=1e-5)
      return out_QxD * scale_LxD[n][None] + shift_LxD[n][None]

    x_NxD = h_NxD + r[0]
    q = [queries(0, a, x_NxD) for a in range(A)]
    v = [values(0, a, h_NxD) for a in range(A)]

    def encode(row):
      node_T, valid_T, key = row
      heads = []
      for a in range(A):
        asks_QxD, x_TxD = q[a][node_T[who_asks[0]]], x_NxD[node_T]
        p = attention(0, a, asks_QxD, x_TxD, valid_T, key)
        heads.append(read(0, a, p, p @ v[a][node_T]))
      h = finish(0, heads)
      for n in range(1, L):
        x, heads = h + r[n][node_T], []
        for a in range(A):
          asks_QxD = queries(n, a, x[who_asks[n]])
          p = attention(n, a, asks_QxD, x, valid_T, key)
          heads.append(read(n, a, p, values(n, a, p @ h)))
        h = finish(n, heads)
      return h[0]

    key = self.make_rng("dropout") if rate else jax.random.key(0)
    keys_B = jax.vmap(functools.partial(jax.random.fold_in, key))(row_B)
    return jax.lax.map(encode, (node_BxT, valid_BxT, keys_B), batch_size=CHUNK)
