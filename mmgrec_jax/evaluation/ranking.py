"""Users to top items: one way for embedding models and generators.

A recommend function is `(params, user_B, history_BxH, seen_BxS) -> items_BxK,
scores_BxK` on the device. The history is what may be read of a user, all their
training items, -1 = padding last, in a fixed order. What is seen, -1 = padding
anywhere, may not be returned: the history, and items that a ranker is `hiding`.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmgrec_jax.data.dataset import Rows
from mmgrec_jax.data.sampling import padded_rows
from mmgrec_jax.training import parallel

Recommend = Callable[
  [Any, jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]
]
# Scores that a device keeps while it ranks all items: 1 GiB of them.
MOST_SCORES = 2**28


def rank_by_inner_product(
  h_user_UxD: jax.Array,
  h_item_IxD: jax.Array,
  user_B: jax.Array,
  seen_BxS: jax.Array,
  k: int,
  allowed_I: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Exact top k of h_u . h_i, as `rank_unseen`.

  Exact on any device: by default a TPU would round the vectors to bfloat16.
  """
  scores_BxI = jnp.matmul(h_user_UxD[user_B], h_item_IxD.T, precision="highest")
  return rank_unseen(scores_BxI, seen_BxS, k, allowed_I)


def rank_unseen(
  scores_BxI: jax.Array,
  seen_BxS: jax.Array,
  k: int,
  allowed_I: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Exact top k over items not seen; -1, -inf where too few.

  Args:
    seen_BxS: items, -1 = padding.
    allowed_I: bool, items to choose from; None: all.
  """
  n_items = scores_BxI.shape[1]
  if allowed_I is not None:
    scores_BxI = jnp.where(allowed_I[None], scores_BxI, -jnp.inf)
  rows_Bx1 = jnp.arange(seen_BxS.shape[0])[:, None]
  seen_BxS = jnp.where(seen_BxS >= 0, seen_BxS, n_items)
  scores_BxI = scores_BxI.at[rows_Bx1, seen_BxS].set(-jnp.inf, mode="drop")
  # A list longer than the catalogue ends in padding.
  missing = max(k - n_items, 0)
  scores_BxI = jnp.pad(
    scores_BxI, [(0, 0), (0, missing)], constant_values=-jnp.inf
  )
  scores_BxK, items_BxK = jax.lax.top_k(scores_BxI, k)
  return jnp.where(scores_BxK > -jnp.inf, items_BxK, -1), scores_BxK


def users_to_rank_for(batch_size: int, n_items: int) -> int:
  """How many a device scores all items for at a time: batch_size at most."""
  return max(1, min(batch_size, MOST_SCORES // n_items))


def shuffled(rows: Rows, seed: int) -> Rows:
  """Each row in a fixed random order: its start is a fair subset of it."""
  user_E = np.repeat(np.arange(len(rows.lengths)), rows.lengths)
  rng = np.random.default_rng(seed)
  order = np.lexsort((rng.random(len(user_E)), user_E))
  return Rows(rows.offset, rows.items[order])


def length_buckets(lengths: np.ndarray, program_slots: int) -> np.ndarray:
  """Lengths to pad histories to, ascending, the last one the longest.

  Users of one bucket share a compiled program, so a bucket costs a
  compilation; without buckets everyone pays for the longest history.

  Args:
    lengths: of the users' histories, int [U].
    program_slots: padded history slots that a compilation is worth.

  Returns:
    the bounds (powers of 2 from 8, and the longest) that make the sum of
    padded slots and compilations smallest, int [buckets].
  """
  longest = max(int(lengths.max(initial=0)), 1)
  powers = 2 ** np.arange(3, 31)
  bounds = np.append(powers[powers < longest], longest)
  users = np.searchsorted(np.sort(lengths), bounds, side="right")
  # best[i]: cheapest way to serve all users within bounds[:i].
  best, chosen = [0], [[]]
  for i, bound in enumerate(bounds):
    served = np.concatenate([[0], users[:i]])
    cost = np.array(best) + (users[i] - served) * bound + program_slots
    j = int(cost.argmin())
    best.append(cost[j])
    chosen.append([*chosen[j], bound])
  return np.array(chosen[-1])


class Ranker:
  """Compiles a recommend function to run over any users in one call.

  Histories come in a random order fixed by `seed`, or as they are if it is
  None.

  Attributes:
    bounds: lengths that histories are padded to, see `length_buckets`.
  """

  def __init__(
    self,
    recommend: Recommend,
    history: Rows,
    batch_size: int,
    seed: int | None,
    program_slots: int = 200_000,
    hidden: Rows | None = None,
  ):
    if seed is not None:
      history = shuffled(history, seed)
    self._arguments = (recommend, history, batch_size, None, program_slots)
    self._lengths = history.lengths
    self.bounds = length_buckets(self._lengths, program_slots)
    hidden = _no_items(history) if hidden is None else hidden
    most_hidden = int(hidden.lengths.max(initial=0))
    self._tables = parallel.replicate((_on_device(history), _on_device(hidden)))

    @functools.cache
    def program(bound: int) -> Callable:
      padded = _padded(recommend, bound, most_hidden)
      return parallel.map_users(padded, batch_size)

    self._program = program

  def hiding(self, hidden: Rows) -> "Ranker":
    """The same ranker, which returns none of these items to their users."""
    return Ranker(*self._arguments, hidden)

  def of(self, history: Rows) -> "Ranker":
    """A ranker for other people, whose histories come as they are.

    It shares the programs of this one, and neither hides anything. Of rows
    that are `rounded_up` few are compiled.
    """
    other = copy.copy(self)
    other._lengths = history.lengths
    longest = int(history.lengths.max(initial=0))
    other.bounds = np.array([_power_of_2(longest)])
    tables = (_on_device(history), _on_device(_no_items(history)))
    other._tables = parallel.replicate(tables)
    return other

  def __call__(
    self, params: Any, users: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Replicated params, users int [n] -> items [n, K], scores [n, K]."""
    bucket = np.searchsorted(self.bounds, self._lengths[users])
    order = np.argsort(bucket, kind="stable")
    arguments = (params, self._tables)
    # All programs are started before the first result is waited for.
    started = [
      self._program(int(bound))(arguments, users[bucket == b])
      for b, bound in enumerate(self.bounds)
      if (bucket == b).any()
    ]
    parts = [finish() for finish in started]
    join = lambda *of_buckets: np.concatenate(of_buckets)[np.argsort(order)]
    return jax.tree.map(join, *parts)


def rounded_up(rows: Rows) -> Rows:
  """With empty rows and items of nobody to powers of 2: few shapes."""
  more_rows, more_items = (
    _power_of_2(n) - n for n in (len(rows.lengths), len(rows.items))
  )
  return Rows(
    np.pad(rows.offset, (0, more_rows), mode="edge"),
    np.pad(rows.items, (0, more_items), constant_values=-1),
  )


def _no_items(rows: Rows) -> Rows:
  """As many rows, all empty."""
  return Rows(np.zeros_like(rows.offset), rows.items[:0])


def _power_of_2(n: int) -> int:
  """The least that is n or more, but 8."""
  return max(8, 1 << (n - 1).bit_length())


def _on_device(rows: Rows) -> tuple[jax.Array, jax.Array]:
  """offset; items, and one slot to gather from when there is none at all."""
  return jnp.asarray(rows.offset), jnp.asarray(np.append(rows.items, -1))


def _padded(recommend: Recommend, bound: int, most_hidden: int) -> Callable:
  """`recommend` with histories looked up and padded to `bound`."""

  def of_batch(arguments, user_B):
    params, (history, hidden) = arguments
    look_up = lambda rows, width: padded_rows(rows[0], rows[1], user_B, width)
    seen_BxS = history_BxH = look_up(history, bound)
    if most_hidden:
      hidden_BxN = look_up(hidden, most_hidden)
      seen_BxS = jnp.concatenate([history_BxH, hidden_BxN], axis=1)
    return recommend(params, user_B, history_BxH, seen_BxS)

  return of_batch
