"""The bipartite user-item graph and the segment mean every GCN here uses.

The only file that knows jraph.
"""

import jax
import jax.numpy as jnp
import jraph
import numpy as np


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


def neighbour_mean(graph: jraph.GraphsTuple, h_NxD: jax.Array) -> jax.Array:
  """Mean of each node's neighbours; a node without any gets 0. [N, D]."""
  assert graph.senders is not None and graph.receivers is not None
  return jraph.segment_mean(
    h_NxD[graph.senders],
    graph.receivers,
    num_segments=len(h_NxD),
    indices_are_sorted=True,
  )
