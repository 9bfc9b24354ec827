"""Numbers the prefixes of all Rec-IDs: what every form of the trie shares."""

from typing import NamedTuple

import numpy as np

from mmgrec_jax.recid.assign import RecIds


class Level(NamedTuple):
  """The n different prefixes of one length, in lexicographic order.

  begin_n: int64, lexicographic position of the first item below each.
  token_n: int64, last token.  parent_n: int64, row one level up.
  """

  begin_n: np.ndarray
  token_n: np.ndarray
  parent_n: np.ndarray


def number_prefixes(rec_ids: RecIds) -> list[Level]:
  """The prefixes of lengths 0 (the root) to M - 1.

  Numbered level after level (breadth first), the children of a node follow one
  another, in the order of their tokens.
  """
  order = rec_ids.lexicographic_order
  nothing = np.zeros(1, np.int64)
  levels = [Level(nothing, nothing, nothing)]
  starts = np.zeros(len(order), bool)
  starts[0] = True
  for column in rec_ids.tokens_IxM.T[:-1]:
    ordered = column[order]
    # A prefix starts where a shorter one does or where its token changes.
    starts[1:] |= ordered[1:] != ordered[:-1]
    begin = np.flatnonzero(starts)
    parent = np.searchsorted(levels[-1].begin_n, begin, side="right") - 1
    levels.append(Level(begin, ordered[begin].astype(np.int64), parent))
  return levels
