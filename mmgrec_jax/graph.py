"""The bipartite user-item graph and the neighbour mean every GCN here uses.

The only file that knows jraph. The mean has two forms: jraph's segment mean is
the reference; `Ell` is several times faster on a CPU.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from flax import struct

# Neighbours in a row of `Ell`. Wider rows add more padding than they save
# additions into their owners, narrower ones the other way round.
WIDTH = 8


@struct.dataclass
class Rows:
  """Each of N nodes' neighbours among S others, in rows of WIDTH. All int32.

  S, the index of no node, fills up rows.

  first_WxN: each node's first neighbours.
  more_WxR: further neighbours of nodes with more, and owner_R, who they are of.
  degree_N: how many neighbours.
  """

  first_WxN: jax.Array
  more_WxR: jax.Array
  owner_R: jax.Array
  degree_N: jax.Array


@struct.dataclass
class Ell:
  """The bipartite graph in rows (ELLPACK): users' items and items' users."""

  of_users: Rows
  of_items: Rows


Graph = jraph.GraphsTuple | Ell


@struct.dataclass
class Fan:
  """U users and I items with up to F sampled neighbours each.

  The rows of h that a convolution reads here are the U users and the users
  sampled for items (I F), then the I items and those sampled for users (U F).

  real_UxF, real_IxF: bool, which of the neighbours there are.
  """

  real_UxF: jax.Array
  real_IxF: jax.Array

  def parts(self, h_SxC: jax.Array) -> tuple[jax.Array, ...]:
    """h of the users, of items' neighbours, of items, of users' neighbours."""
    users, items = len(self.real_UxF), len(self.real_IxF)
    lengths = (users, self.real_IxF.size, items, self.real_UxF.size)
    return tuple(jnp.split(h_SxC, np.cumsum(lengths[:-1])))


def bipartite_graph(
  user_E: np.ndarray,
  item_E: np.ndarray,
  n_users: int,
  n_items: int,
  form: str = "segment",
) -> Graph:
  """Training interactions as a graph; nodes are users, then items.

  Args:
    form: `segment` (GraphsTuple: each interaction is two directed edges, sorted
      by receiver), `ell`, or `auto`: ell on a CPU, segment elsewhere.
  """
  if form == "auto":
    form = "ell" if jax.default_backend() == "cpu" else "segment"
  if form == "ell":
    return Ell(
      _rows(user_E, item_E, n_users, n_items),
      _rows(item_E, user_E, n_items, n_users),
    )
  ends = np.stack([user_E, item_E.astype(np.int64) + n_users])
  senders = np.concatenate([ends[0], ends[1]])
  receivers = np.concatenate([ends[1], ends[0]])
  order = np.lexsort((senders, receivers))
  return jraph.GraphsTuple(
    nodes=None,
    edges=None,
    senders=jnp.asarray(senders[order], jnp.int32),
    receivers=jnp.asarray(receivers[order], jnp.int32),
    globals=None,
    n_node=jnp.array([n_users + n_items]),
    n_edge=jnp.array([len(order)]),
  )


def _rows(
  of_E: np.ndarray, neighbour_E: np.ndarray, n: int, n_neighbours: int
) -> Rows:
  """Each edge says whose neighbour who is."""
  order = np.lexsort((neighbour_E, of_E))
  of_E, neighbour_E = of_E[order], neighbour_E[order]
  degree_N = np.bincount(of_E, minlength=n)
  start_N = np.cumsum(degree_N) - degree_N
  row_E, column_E = np.divmod(np.arange(len(of_E)) - start_N[of_E], WIDTH)
  first = row_E == 0
  first_WxN = np.full((WIDTH, n), n_neighbours)
  first_WxN[column_E[first], of_E[first]] = neighbour_E[first]

  rows_N = np.maximum(-(-degree_N // WIDTH) - 1, 0)
  owner_R = np.repeat(np.arange(n), rows_N)
  row_E += (np.cumsum(rows_N) - rows_N)[of_E] - 1
  more_WxR = np.full((WIDTH, len(owner_R)), n_neighbours)
  more_WxR[column_E[~first], row_E[~first]] = neighbour_E[~first]
  # Not by owner: rows that read the same nodes lie together, so that the cache
  # serves most reads of a large graph.
  order = np.argsort(more_WxR[0], kind="stable")
  arrays = first_WxN, more_WxR[:, order], owner_R[order], degree_N
  return Rows(*(jnp.asarray(a, jnp.int32) for a in arrays))


def receivers(graph: Graph | Fan, h_NxC: jax.Array) -> jax.Array:
  """Rows of h that a convolution makes anew: all, but in a `Fan`."""
  if isinstance(graph, Fan):
    user_UxC, _, item_IxC, _ = graph.parts(h_NxC)
    return jnp.concatenate([user_UxC, item_IxC])
  return h_NxC


def neighbour_mean(
  graph: Graph | Fan,
  h_NxC: jax.Array,
  linear: Callable[[jax.Array], jax.Array] = lambda h: h,
) -> jax.Array:
  """Mean of each node's neighbours; a node without any gets 0. [N, D].

  In a `Fan` N are the `receivers`, and h has the rows it tells of.

  Args:
    linear: a linear map of rows, C to D, applied to the neighbours or, which is
      the same, to their mean: wherever there are fewer rows.
  """
  if isinstance(graph, Ell):
    n_users = len(graph.of_users.degree_N)
    h_UxC, h_IxC = h_NxC[:n_users], h_NxC[n_users:]
    user_UxD = _mean(graph.of_users, graph.of_items, h_IxC, linear)
    item_IxD = _mean(graph.of_items, graph.of_users, h_UxC, linear)
    return jnp.concatenate([user_UxD, item_IxD])
  if isinstance(graph, Fan):
    _, users_KxC, _, items_KxC = graph.parts(h_NxC)
    of_users_UxC = _mean_of_real(items_KxC, graph.real_UxF)
    of_items_IxC = _mean_of_real(users_KxC, graph.real_IxF)
    return linear(jnp.concatenate([of_users_UxC, of_items_IxC]))
  assert graph.senders is not None and graph.receivers is not None
  return jraph.segment_mean(
    linear(h_NxC)[graph.senders],
    graph.receivers,
    num_segments=len(h_NxC),
    indices_are_sorted=True,
  )


def neighbour_sum(graph: Graph, h_NxD: jax.Array) -> jax.Array:
  """A h: the sum of each node's neighbours. [N, D]."""
  if isinstance(graph, Ell):
    n_users = len(graph.of_users.degree_N)
    user_UxD = _sum(graph.of_users, graph.of_items, h_NxD[n_users:])
    item_IxD = _sum(graph.of_items, graph.of_users, h_NxD[:n_users])
    return jnp.concatenate([user_UxD, item_IxD])
  assert graph.senders is not None and graph.receivers is not None
  return jraph.segment_sum(
    h_NxD[graph.senders],
    graph.receivers,
    num_segments=len(h_NxD),
    indices_are_sorted=True,
  )


def degrees(graph: Graph, n_nodes: int) -> jax.Array:
  """Neighbours of each node, float32 [N]."""
  if isinstance(graph, Ell):
    parts = (graph.of_users.degree_N, graph.of_items.degree_N)
    return jnp.concatenate(parts).astype(jnp.float32)
  assert graph.receivers is not None
  ones_E = jnp.ones(len(graph.receivers), jnp.float32)
  return jraph.segment_sum(
    ones_E, graph.receivers, n_nodes, indices_are_sorted=True
  )


def propagate(graph: Graph, h_NxD: jax.Array) -> jax.Array:
  """D^-1/2 A D^-1/2 h, LightGCN's step; a node without neighbours gets 0."""
  scale_N = jnp.maximum(degrees(graph, len(h_NxD)), 1) ** -0.5
  return scale_N[:, None] * neighbour_sum(graph, scale_N[:, None] * h_NxD)


def mean_with_itself(graph: Graph, h_NxD: jax.Array) -> jax.Array:
  """(D + I)^-1 (A + I) h: the mean of each node and its neighbours. [N, D]."""
  n_Nx1 = 1 + degrees(graph, len(h_NxD))[:, None]
  return (h_NxD + neighbour_sum(graph, h_NxD)) / n_Nx1


def layer_means(
  graph: Graph, h_NxD: jax.Array, layers: int, step=propagate
) -> list[jax.Array]:
  """LightGCN's vectors, eq. 8 with alpha_k = 1 / (n + 1), at every depth n.

  Args:
    step: `propagate`, or another that takes what it takes.

  Returns:
    [N, D] of n = 0 … layers: the mean of h and its first n steps.
  """
  h = [h_NxD]
  for _ in range(layers):
    h.append(step(graph, h[-1]))
  return [jnp.stack(h[: n + 1]).mean(axis=0) for n in range(layers + 1)]


def segment_softmax(
  logits_E: jax.Array, receiver_E: jax.Array, n_nodes: int
) -> jax.Array:
  """Softmax over the edges that arrive at each node. [E, ...]."""
  # The largest logit only guards against overflow; jraph's own softmax spends
  # most of its backward pass on that maximum's gradient, which cancels.
  fixed_E = jax.lax.stop_gradient(logits_E)
  highest_N = jraph.segment_max(fixed_E, receiver_E, n_nodes)
  e_E = jnp.exp(logits_E - highest_N[receiver_E])
  return e_E / jraph.segment_sum(e_E, receiver_E, n_nodes)[receiver_E]


def _mean(there: Rows, back: Rows, h_SxC: jax.Array, linear) -> jax.Array:
  """`linear` of the mean over `there`. [N, D]."""
  degree_Nx1 = jnp.maximum(there.degree_N, 1).astype(h_SxC.dtype)[:, None]
  if len(h_SxC) > len(degree_Nx1):
    return linear(_sum(there, back, h_SxC) / degree_Nx1)
  return _sum(there, back, linear(h_SxC)) / degree_Nx1


def _mean_of_real(h_KxC: jax.Array, real_NxF: jax.Array) -> jax.Array:
  """Mean over each node's F rows of h that are real. [N, C]."""
  h_NxFxC = h_KxC.reshape(*real_NxF.shape, h_KxC.shape[1])
  sum_NxC = jnp.where(real_NxF[..., None], h_NxFxC, 0).sum(axis=1)
  return sum_NxC / jnp.maximum(real_NxF.sum(axis=1, keepdims=True), 1)


def _add_up(rows: Rows, h_SxD: jax.Array) -> jax.Array:
  """Sum of each node's neighbours. [N, D]."""
  zero_1xD = jnp.zeros_like(h_SxD, shape=(1, h_SxD.shape[1]))
  h_S1xD = jnp.concatenate([h_SxD, zero_1xD])

  # Unrolled, XLA makes one loop of all reads and additions; `h[rows].sum(0)`
  # would write out every neighbour first.
  def sum_rows(index_WxR):
    return functools.reduce(jnp.add, [h_S1xD[index_R] for index_R in index_WxR])

  sum_NxD = sum_rows(rows.first_WxN)
  return sum_NxD.at[rows.owner_R].add(sum_rows(rows.more_WxR))


@jax.custom_vjp
def _sum(there: Rows, back: Rows, h_SxD: jax.Array) -> jax.Array:
  """A h, where `there` are the rows of A and `back` those of A^T."""
  del back
  return _add_up(there, h_SxD)


def _sum_forward(there, back, h_SxD):
  return _add_up(there, h_SxD), back


def _sum_backward(back, g_NxD):
  """A^T g: gathers again, where autodiff would scatter every edge."""
  return None, None, _add_up(back, g_NxD)


_sum.defvjp(_sum_forward, _sum_backward)
