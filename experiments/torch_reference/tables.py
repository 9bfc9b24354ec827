# PyTorch is optional: types are checked where it is installed.
# pyright: reportMissingImports=false

"""The trie of Rec-IDs as dense tensors."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmgrec_jax.decoding.trie import build_trie
from mmgrec_jax.recid.assign import RecIds


class TorchTables(NamedTuple):
  """The arrays of `mmgrec_jax.decoding.trie.Trie`, int32, on one device.

  P inner nodes, Q nodes, L semantic vocabulary, C last tokens, I items.
  """

  next_node_PxL: Tensor
  first_Q: Tensor
  count_Q: Tensor
  item_I: Tensor
  position_I: Tensor
  tokens_IxM: Tensor
  path_IxM: Tensor
  rank_C: Tensor  # 0 to C - 1

  @classmethod
  def from_rec_ids(
    cls,
    tokens_IxM: np.ndarray,
    vocabulary: tuple[int, ...],
    device: str | torch.device = "cpu",
  ) -> "TorchTables":
    """Builds them in NumPy. `vocabulary`: size of each level, as in RecIds."""
    trie = build_trie(RecIds(tokens_IxM, vocabulary), "dense")
    C = int(tokens_IxM[:, -1].max()) + 1
    arrays = [np.array(getattr(trie, name)) for name in cls._fields[:-1]]
    arrays.append(np.arange(C, dtype=np.int32))
    return cls(*(torch.from_numpy(array).to(device) for array in arrays))

  @property
  def levels(self) -> int:
    """M, tokens of a Rec-ID."""
    return self.tokens_IxM.shape[1]

  def node_of(self, prefix: tuple[int, ...]) -> int:
    """Node of a semantic prefix; -1 if no item has it."""
    node = 0
    for token in prefix:
      inside = node >= 0 and token < self.next_node_PxL.shape[1]
      node = int(self.next_node_PxL[node, token]) if inside else -1
    return node

  def item_of(self, rec_id: tuple[int, ...]) -> int:
    """Item of a whole Rec-ID; -1 if it is none's."""
    *prefix, rank = rec_id
    node = self.node_of(tuple(prefix))
    if node < 0 or rank >= int(self.count_Q[node]):
      return -1
    return int(self.item_I[int(self.first_Q[node]) + rank])
