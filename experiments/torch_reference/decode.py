# PyTorch is optional: types are checked where it is installed.
# pyright: reportMissingImports=false

"""Generating Rec-IDs: the published loop, and as PyTorch would be served.

What had to be repaired in the published code, to compare results at all:

- Nothing keeps a beam on a Rec-ID that some item has. Answers are token tuples,
  often of no item (they may even hold S and E); invalid ones take the places of
  items. Repaired: only children in the trie, softmax over these.
- Items of the training history are recommended again. Repaired: excluded, as
  soon as all items below a child are seen.
- In training, histories are drawn without leaving out the target, which the
  model then learns to copy. Repaired: the caller's sampler excludes targets.

What was not repaired, since it is what we measure: one user at a time, one beam
at a time, the whole prefix decoded anew for each token, with the keys and
values of the history, and a Python list of beams.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.torch_reference.layers import Cache
from experiments.torch_reference.model import TorchMMGRec
from experiments.torch_reference.tables import TorchTables
from mmgrec_jax.errors import UserError

NEG_INF = -torch.inf


@torch.no_grad()
def reference_generate(
  model: TorchMMGRec,
  user: int,
  history: list[int],
  K: int,
  length: int,
  tables: TorchTables | None = None,
) -> list[tuple[tuple[int, ...], float]]:
  """Beam search for one user as published: a loop over beams.

  Args:
    history: items, counted from 0, without padding.
    K: beams. Each proposes its K best tokens; the best K of all stay.
    length: tokens to generate.
    tables: if given, search only Rec-IDs of unseen items (see above).

  Returns:
    at most K (tokens, log-probability), best first.
  """
  device = model.projection.weight.device
  user_1 = torch.tensor([user], device=device)
  # Without any item, attention needs padding to look at.
  history_1xN = torch.tensor([history or [-1]], device=device)
  memory, bias = model.encoder(user_1, history_1xN)
  beams: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
  for _ in range(length):
    proposals = []
    for tokens, score in beams:
      prefix = [model.start_token, *tokens]
      prefix_1x1xS = torch.tensor([[prefix]], device=device)
      x = model.decoder(prefix_1x1xS, memory, bias)
      logits_V = model.projection(x[0, 0, -1]).float()
      if tables is None:
        log_p_V = logits_V.log_softmax(-1)
      else:
        log_p_V = repaired_log_probs(logits_V, tables, tokens, history)
      best, token = log_p_V.topk(min(K, len(log_p_V)))
      proposals += [
        ((*tokens, t), score + s)
        for t, s in zip(token.tolist(), best.tolist(), strict=True)
        if s > NEG_INF
      ]
    beams = sorted(proposals, key=lambda beam: -beam[1])[:K]
  return beams


def repaired_log_probs(
  logits_V: Tensor,
  tables: TorchTables,
  tokens: tuple[int, ...],
  history: list[int],
) -> Tensor:
  """log p of the next token over the trie's children, -inf where none unseen.

  Deliberately of another kind than the batched way, against which it is tested.
  """
  node = tables.node_of(tokens)
  valid_V = torch.zeros_like(logits_V, dtype=torch.bool)
  last = len(tokens) == tables.levels - 1
  if last:
    valid_V[: int(tables.count_Q[node])] = True
  else:
    child_L = tables.next_node_PxL[node]
    valid_V[: len(child_L)] = child_L >= 0
  log_p_V = logits_V.masked_fill(~valid_V, NEG_INF).log_softmax(-1)
  seen: dict[int, int] = {}
  for rec_id in tables.tokens_IxM[history].tolist():
    if tuple(rec_id[: len(tokens)]) == tokens:
      token = rec_id[len(tokens)]
      seen[token] = seen.get(token, 0) + 1
  for token, number in seen.items():
    below = 1 if last else int(tables.count_Q[tables.node_of((*tokens, token))])
    if number == below:
      log_p_V[token] = NEG_INF
  return log_p_V


@torch.no_grad()
def batched_generate(
  model: TorchMMGRec,
  tables: TorchTables,
  user_B: Tensor,
  history_BxH: Tensor,
  K: int,
  history_length: int | None = None,
) -> tuple[Tensor, Tensor]:
  """The K best unseen items of each user; compiles with static shapes.

  The same search as `mmgrec_jax.decoding.beam_search.beam_search` with
  `renormalise=True`. Shapes depend on arguments' shapes only.

  Args:
    model: in evaluation mode.
    user_B: int64.  history_BxH: int64 items, counted from 0, -1 = padding.
    history_length: the encoder reads that many first columns of the history
      (default: all); all are excluded.

  Returns:
    items int32 [B, K], best first, -1 where a user has fewer left; scores
    float32 [B, K], -inf there.
  """
  L, C = tables.next_node_PxL.shape[1], len(tables.rank_C)
  if max(L, C) > model.start_token:
    raise UserError(
      f"Rec-IDs need {max(L, C)} tokens beside S and E; the model has"
      f" {model.start_token}."
    )
  memory_BxNxD, bias = model.encoder(user_B, history_BxH[:, :history_length])
  # Once a user: its K beams are as many queries of the same memory.
  memories = model.decoder.memories(memory_BxNxD)
  exhausted = exhausted_children(tables, history_BxH)
  rows_Bx1 = torch.arange(len(user_B), device=user_B.device)[:, None]
  # One beam to start with; K of them would all say the same.
  token_BxK = torch.full_like(rows_Bx1, model.start_token)
  node_BxK = torch.zeros_like(rows_Bx1)
  score_BxK = torch.zeros_like(rows_Bx1, dtype=torch.float32)
  caches: list[Cache] = [[] for _ in memories]
  for m in range(tables.levels - 1):
    x, caches = model.decoder.step(token_BxK, m, caches, memories, bias)
    child_BxKxL = tables.next_node_PxL[node_BxK]
    score_BxK, beam_BxK, token_BxK = expand(
      score_BxK, logits(model, x, L), child_BxKxL >= 0, node_BxK,
      exhausted.level(m), K,
    )  # fmt: skip
    # Where there is no child the beam is dead and may stand anywhere.
    node_BxK = child_BxKxL[rows_Bx1, beam_BxK, token_BxK].long().clamp(min=0)
    caches = reorder(caches, beam_BxK)
  m = tables.levels - 1
  x, _ = model.decoder.step(token_BxK, m, caches, memories, bias)
  valid_BxKxC = tables.rank_C < tables.count_Q[node_BxK][..., None]
  score_BxK, beam_BxK, rank_BxK = expand(
    score_BxK, logits(model, x, C), valid_BxKxC, node_BxK,
    exhausted.level(m), K,
  )  # fmt: skip
  alive_BxK = score_BxK > NEG_INF
  position_BxK = tables.first_Q[node_BxK.gather(1, beam_BxK)] + rank_BxK
  item_BxK = tables.item_I[position_BxK.where(alive_BxK, 0)]
  missing = (0, K - score_BxK.shape[1])
  return (
    F.pad(item_BxK.where(alive_BxK, -1), missing, value=-1),
    F.pad(score_BxK, missing, value=NEG_INF),
  )


def reorder(caches: list[Cache], beam_BxK: Tensor) -> list[Cache]:
  """Caches of the beams that the new ones continue."""
  rows_Bx1 = torch.arange(len(beam_BxK), device=beam_BxK.device)[:, None]

  def pick(array: Tensor) -> Tensor:
    if array.shape[1] == 1:
      return array
    # On flat rows: about twice as fast on CPU as indexing with two arrays.
    flat = (rows_Bx1 * array.shape[1] + beam_BxK).flatten()
    picked = array.flatten(0, 1).index_select(0, flat)
    return picked.unflatten(0, beam_BxK.shape)

  return [[(pick(k), pick(v)) for k, v in cache] for cache in caches]


def logits(model: TorchMMGRec, x_BxKxD: Tensor, width: int) -> Tensor:
  """Of the first `width` tokens, float32 [B, K, width]."""
  return F.linear(x_BxKxD, model.projection.weight[:width]).float()


class Exhausted(NamedTuple):
  """Children with no item left for a user: parent, token, dead, [B, H, M]."""

  parent: Tensor
  token: Tensor
  dead: Tensor

  def level(self, m: int) -> "Exhausted":
    return Exhausted(*(a[..., m] for a in self))


def expand(
  score_BxK: Tensor,
  logits_BxKxV: Tensor,
  valid_BxKxV: Tensor,
  node_BxK: Tensor,
  exhausted_BxH: Exhausted,
  width: int,
) -> tuple[Tensor, Tensor, Tensor]:
  """The best `width` continuations (or all): score, parent beam and token."""
  V = logits_BxKxV.shape[-1]
  # No row is all False: dead beams too stand on a node.
  log_p_BxKxV = logits_BxKxV.masked_fill(~valid_BxKxV, NEG_INF).log_softmax(-1)
  total = (score_BxK[..., None] + log_p_BxKxV).flatten(1)
  # At most one beam: all stand on different nodes, or on the root once dead.
  on_parent_BxHxK = exhausted_BxH.parent[..., None] == node_BxK[:, None]
  hit_BxH, beam_BxH = on_parent_BxHxK.int().max(-1)
  # x - inf excludes, x + 0 does nothing: no branch, no spare column.
  dead_BxH = (hit_BxH > 0) & exhausted_BxH.dead
  penalty_BxH = torch.where(dead_BxH, NEG_INF, 0.0)
  total = total.scatter_add(1, beam_BxH * V + exhausted_BxH.token, penalty_BxH)
  score, flat = total.topk(min(width, total.shape[1]))
  return score, flat // V, flat % V


def exhausted_children(tables: TorchTables, history_BxH: Tensor) -> Exhausted:
  """What a user's history uses up; -1 is padding.

  Column m speaks of level m. A child is dead when every item below it is in the
  history; at the last level a child is one item.
  """
  present_BxH = history_BxH >= 0
  item_BxH = history_BxH.clamp(min=0)
  position_BxH = tables.position_I[item_BxH]
  beyond = len(tables.item_I)
  seen_BxH = position_BxH.where(present_BxH, beyond).sort(1).values
  path_BxHxM = tables.path_IxM[item_BxH]
  child = path_BxHxM[..., 1:].flatten(1)
  first, count = tables.first_Q[child], tables.count_Q[child]
  start = torch.searchsorted(seen_BxH, first)
  below = torch.searchsorted(seen_BxH, first + count) - start
  used_up = (below == count).view_as(path_BxHxM[..., 1:])
  last = torch.ones_like(present_BxH)[..., None]
  dead_BxHxM = torch.cat([used_up, last], -1) & present_BxH[..., None]
  return Exhausted(path_BxHxM, tables.tokens_IxM[item_BxH].long(), dead_BxHxM)
