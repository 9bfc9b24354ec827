"""Rec-IDs of items that come later; none that is published moves."""

import collections
import math
from collections.abc import Iterator

import numpy as np

from mmgrec_jax.errors import UserError
from mmgrec_jax.recid.assign import RecIds


def later_rec_ids(
  published: RecIds, z_NxZ: np.ndarray, codebooks_SxLxZ: np.ndarray
) -> np.ndarray:
  """Rec-IDs of N more items, within the published vocabulary. int32 [N, M].

  An item gets the semantic tokens that the quantizer chooses (eq. 7-8) and, as
  the least popular of its group, the group's next last token (eq. 11). Where
  that is beyond the vocabulary, it goes to the nearest group with room.

  Args:
    published: their last tokens count from 0 in each group.
    z_NxZ: latents of the new ones.
    codebooks_SxLxZ: those that made the published semantic tokens.

  Raises:
    UserError: there are fewer free Rec-IDs than items.
  """
  most = published.vocabulary[-1]
  room = math.prod(published.vocabulary) - len(published.tokens_IxM)
  if len(z_NxZ) > room:
    raise UserError(
      f"{len(z_NxZ):,} new items, but of the vocabulary"
      f" {published.vocabulary} only {room:,} Rec-IDs are free; train a run"
      " with them."
    )
  taken = collections.Counter()
  for *prefix, last in published.tokens_IxM.tolist():
    taken[tuple(prefix)] = max(taken[tuple(prefix)], last + 1)
  tokens = []
  for z_Z in z_NxZ:
    ordered = nearest_first(z_Z, codebooks_SxLxZ)
    prefix = next(prefix for prefix in ordered if taken[prefix] < most)
    tokens.append((*prefix, taken[prefix]))
    taken[prefix] += 1
  return np.array(tokens, np.int32).reshape(len(z_NxZ), -1)


def nearest_first(
  residual_Z: np.ndarray,
  codebooks_SxLxZ: np.ndarray,
  prefix: tuple[int, ...] = (),
) -> Iterator[tuple[int, ...]]:
  """All semantic tokens, the quantizer's choice first; then another last
  codeword, the nearer the earlier, then another one before it, and so on.
  """
  if len(prefix) == len(codebooks_SxLxZ):
    yield prefix
    return
  left_LxZ = residual_Z - codebooks_SxLxZ[len(prefix)]
  for code in (left_LxZ**2).sum(axis=1).argsort(kind="stable"):
    yield from nearest_first(
      left_LxZ[code], codebooks_SxLxZ, (*prefix, int(code))
    )
