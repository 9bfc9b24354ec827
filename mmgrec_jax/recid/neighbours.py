"""Who shares the first tokens of an item's Rec-ID."""

from typing import Any

import numpy as np

from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.recid.assign import RecIds

PICKS = 5  # items to show
SHOWN = 5  # neighbours of each, the most popular ones


def shared_tokens(tokens_IxM: np.ndarray, item: int) -> np.ndarray:
  """First tokens that each item has in common with one, int [I]."""
  equal_IxM = tokens_IxM == tokens_IxM[item]
  return np.cumprod(equal_IxM, axis=1).sum(axis=1)


def of_items(data: Dataset, rec_ids: RecIds) -> list[dict[str, Any]]:
  """Items spread over the more popular half, and their neighbours.

  `shares[m]` are those with exactly m tokens in common, the closest first.
  """
  popular = np.argsort(-data.popularity(), kind="stable")
  rank = np.argsort(popular)
  picks = popular[np.linspace(0, (len(popular) - 1) // 2, PICKS).astype(int)]
  M = rec_ids.tokens_IxM.shape[1]
  out = []
  for item in dict.fromkeys(picks.tolist()):
    common_I = shared_tokens(rec_ids.tokens_IxM, item)
    shares = {}
    for m in range(M - 1, 0, -1):
      others = np.flatnonzero(common_I == m)
      others = others[np.argsort(rank[others])]
      shares[str(m)] = {
        "count": len(others),
        "items": [str(data.names[i]) for i in others[:SHOWN]],
      }
    out.append(
      {
        "item": str(data.names[item]),
        "rec_id": rec_ids.tokens_IxM[item].tolist(),
        "shares": shares,
      }
    )
  return out
