"""The bipartite user-item graph and the neighbour mean every GCN here uses.

The only file that knows jraph. The mean has two forms: jraph's segment mean is
the reference; `Ell` is several times faster on a CPU.
"""

import functools

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from flax import struct

# Neighbours in a row of `Ell`. Wider rows add more padding than they save
# additions into their owners, narrower ones the other way round.
WIDTH = 8


@struct.dataclass
class Ell:
  """A symmetric graph in rows of WIDTH neighbours (ELLPACK), all int32.

  N, the index of no node, fills up rows.

  first_WxN: each node's first neighbours.
  more_WxR: further neighbours of nodes with more, and owner_R, who they are of.
  degree_N: how many neighbours.
  """

  first_WxN: jax.Array
  more_WxR: jax.Array
  owner_R: jax.Array
  degree_N: jax.Array


Graph = jraph.GraphsTuple | Ell


def bipartite_graph(
  user_E: np.ndarray, item_E: np.ndarray, n_users: int, n_items: int
) -> jraph.GraphsTuple:
  """Training interactions as a graph; nodes are users, then items.

  Each interaction becomes two directed edges, sorted by receiver.
  """
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


def to_ell(graph: jraph.GraphsTuple) -> Ell:
  """The same graph in rows.

  Args:
    graph: symmetric, edges sorted by receiver, as `bipartite_graph` makes it.
  """
  senders_E, receivers_E = (
    np.asarray(graph.senders),
    np.asarray(graph.receivers),
  )
  n = int(graph.n_node[0])
  degree_N = np.bincount(receivers_E, minlength=n)
  place_E = (
    np.arange(len(senders_E)) - (np.cumsum(degree_N) - degree_N)[receivers_E]
  )
  row_E, column_E = np.divmod(place_E, WIDTH)
  first_WxN = np.full((WIDTH, n), n)
  first = row_E == 0
  first_WxN[column_E[first], receivers_E[first]] = senders_E[first]

  rows_N = np.maximum(-(-degree_N // WIDTH) - 1, 0)
  owner_R = np.repeat(np.arange(n), rows_N)
  start_N = np.cumsum(rows_N) - rows_N
  more_WxR = np.full((WIDTH, len(owner_R)), n)
  row_E = start_N[receivers_E] + row_E - 1
  more_WxR[column_E[~first], row_E[~first]] = senders_E[~first]
  # Rows of one hub lie apart, but rows that read the same nodes together: the
  # cache then serves most reads of a large graph.
  order = np.argsort(more_WxR[0], kind="stable")
  as_int32 = lambda a: jnp.asarray(a, jnp.int32)
  return Ell(
    first_WxN=as_int32(first_WxN),
    more_WxR=as_int32(more_WxR[:, order]),
    owner_R=as_int32(owner_R[order]),
    degree_N=as_int32(degree_N),
  )


def in_form(graph: jraph.GraphsTuple, form: str) -> Graph:
  """The graph as `neighbour_mean` is to read it.

  Args:
    form: `segment`, `ell` or `auto`: ell on a CPU, segment elsewhere.
  """
  on_cpu = jax.default_backend() == "cpu"
  if form == "ell" or (form == "auto" and on_cpu):
    return to_ell(graph)
  return graph


def neighbour_mean(graph: Graph, h_NxD: jax.Array) -> jax.Array:
  """Mean of each node's neighbours; a node without any gets 0. [N, D]."""
  if isinstance(graph, Ell):
    return _ell_mean(graph, h_NxD)
  assert graph.senders is not None and graph.receivers is not None
  return jraph.segment_mean(
    h_NxD[graph.senders],
    graph.receivers,
    num_segments=len(h_NxD),
    indices_are_sorted=True,
  )


def _neighbour_sum(graph: Ell, h_NxD: jax.Array) -> jax.Array:
  """Sum over each node's neighbours. [N, D]."""
  zero_1xD = jnp.zeros_like(h_NxD, shape=(1, h_NxD.shape[1]))
  h_N1xD = jnp.concatenate([h_NxD, zero_1xD])

  # Unrolled, XLA makes one loop of all reads and additions; `h[rows].sum(0)`
  # would write out every neighbour first.
  def sum_rows(rows_WxR):
    return functools.reduce(jnp.add, [h_N1xD[row_R] for row_R in rows_WxR])

  sum_NxD = sum_rows(graph.first_WxN)
  return sum_NxD.at[graph.owner_R].add(sum_rows(graph.more_WxR))


def _over_degree(graph: Ell, h_NxD: jax.Array) -> jax.Array:
  degree_N = jnp.maximum(graph.degree_N, 1).astype(h_NxD.dtype)
  return h_NxD / degree_N[:, None]


@jax.custom_vjp
def _ell_mean(graph: Ell, h_NxD: jax.Array) -> jax.Array:
  """D^-1 A h."""
  return _over_degree(graph, _neighbour_sum(graph, h_NxD))


def _ell_mean_forward(graph, h_NxD):
  return _ell_mean(graph, h_NxD), graph


def _ell_mean_backward(graph, g_NxD):
  """A is symmetric: the gradient is A D^-1 g, gathers again, no scatter."""
  return None, _neighbour_sum(graph, _over_degree(graph, g_NxD))


_ell_mean.defvjp(_ell_mean_forward, _ell_mean_backward)
