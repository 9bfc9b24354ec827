"""Constrained beam search over the trie of Rec-IDs, on the device.

Knows nothing of models: `step_logits` and `last_logits` are any functions.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mmgrec_jax.decoding import trie as tries
from mmgrec_jax.decoding.allowed import Allowed
from mmgrec_jax.decoding.log_probs import NEG_INF, masked_log_softmax
from mmgrec_jax.decoding.top_k import top_k

NOWHERE = -1  # no node
# Scores the next semantic token: (last tokens [B, K], step, cache) ->
# (logits [B, K, L], cache). At step 0 the tokens mean nothing.
StepLogits = Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, Any]]


class Beams(NamedTuple):
  """K prefixes a user; dead beams score -inf and stand on the root.

  step: int32, tokens decoded.  score_BxK: float32 log-probabilities.
  node_BxK, token_BxK: int32, trie node and last token.
  cache: the model's, arrays [B, K, ...].
  """

  step: jax.Array
  score_BxK: jax.Array
  node_BxK: jax.Array
  token_BxK: jax.Array
  cache: Any


def _expand(
  score_BxK: jax.Array,
  log_p_BxKxV: jax.Array,
  node_BxK: jax.Array,
  exhausted: tries.Exhausted,
  level: jax.Array | int,
  beam_width: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Best continuations: score, parent beam and token, each [B, beam_width]."""
  total_BxKxV = score_BxK[..., None] + log_p_BxKxV
  # Each live beam stands on another node, so at most one matches. The largest
  # of numbers: argmax takes a CPU several times as long.
  live_BxK = jnp.where(score_BxK > NEG_INF, node_BxK, NOWHERE)
  parent_BxH = exhausted.parent[:, :, level]
  number_K = jnp.arange(node_BxK.shape[1])
  beam_BxH = jnp.where(
    parent_BxH[:, :, None] == live_BxK[:, None], number_K[None, None], -1
  ).max(axis=-1)
  hit_BxH = (beam_BxH >= 0) & exhausted.dead[:, :, level]
  # Out-of-range tokens are dropped: the way to leave out what is no hit.
  V = log_p_BxKxV.shape[-1]
  token_BxH = jnp.where(hit_BxH, exhausted.token[:, :, level], V)
  rows_Bx1 = jnp.arange(score_BxK.shape[0])[:, None]
  total_BxKxV = total_BxKxV.at[rows_Bx1, beam_BxH, token_BxH].set(
    NEG_INF, mode="drop"
  )
  total = total_BxKxV.reshape(score_BxK.shape[0], -1)
  missing = max(beam_width - total.shape[1], 0)
  total = jnp.pad(total, [(0, 0), (0, missing)], constant_values=NEG_INF)
  score, flat = top_k(total, beam_width)
  flat = jnp.where(score > NEG_INF, flat, 0)
  return score, flat // V, flat % V


def _reorder(tree: Any, beam_BxK: jax.Array) -> Any:
  """Gathers beams in every array [B, K, ...] of a cache."""
  rows_Bx1 = jnp.arange(beam_BxK.shape[0])[:, None]
  return jax.tree.map(lambda a: a[rows_Bx1, beam_BxK], tree)


# Shares of the beams that may be few enough to be worth programs of their own:
# before the last token nearly all are sure, before the one above it about half.
FEW = (1 / 10, 3 / 4)


def _next_log_p(
  ask: StepLogits,
  valid_of: Callable,
  beams: Beams,
  choice_BxK: jax.Array,
  skip: bool,
  renormalise: bool,
) -> tuple[jax.Array, Any]:
  """Log-probabilities of each beam's next token [B, K, V], and the cache.

  Renormalised, a prefix that only one item has leaves no choice, now or later:
  its one token has 0. Most prefixes soon are such, so the model can leave them
  out, and what it would have kept of them is never asked for.

  Args:
    ask: the model.  valid_of: (nodes, V) -> tokens that may follow.
    choice_BxK: beams with more than one item.
    skip: leave the others out where that is most of them.
  """
  K = beams.node_BxK.shape[1]
  rows_Bx1 = jnp.arange(beams.node_BxK.shape[0])[:, None]
  every_beam = (beams.token_BxK, beams.node_BxK, beams.cache)

  def of_model(token_BxR, node_BxR, cache):
    logits, cache = ask(token_BxR, beams.step, cache)
    valid = valid_of(node_BxR, logits.shape[-1])
    chex.assert_equal_shape([logits, valid])
    return masked_log_softmax(logits, valid, renormalise), cache

  def of_some(few: int):
    beam_BxR = jnp.argsort(~choice_BxK, axis=1)[:, :few]
    some = of_model(*_reorder(every_beam, beam_BxR))
    valid = valid_of(beams.node_BxK, some[0].shape[-1])
    sure = (jnp.where(valid, 0.0, NEG_INF), beams.cache)
    put = lambda every, of_few: every.at[rows_Bx1, beam_BxR].set(of_few)
    return jax.tree.map(put, sure, some)

  sizes = sorted({math.ceil(share * K) for share in FEW} - {K})
  if not (skip and renormalise and sizes):
    return of_model(*every_beam)
  most = (choice_BxK & (beams.score_BxK > NEG_INF)).sum(axis=1).max()
  branches = [functools.partial(of_some, few) for few in sizes]
  return jax.lax.switch(
    (most > jnp.array(sizes)).sum(),
    [*branches, lambda: of_model(*every_beam)],
  )


def beam_search(
  step_logits: StepLogits,
  last_logits: StepLogits,
  cache: Any,
  trie: tries.Trie,
  seen_BxS: jax.Array,
  beam_width: int,
  renormalise: bool,
  skip_sure: bool = True,
  loop: Callable = jax.lax.while_loop,
  allowed: Allowed | None = None,
) -> tuple[jax.Array, jax.Array]:
  """The best Rec-IDs of unseen items for each user (paper §3.4).

  The first step has one beam and the last one needs no trie, so both stand
  outside the loop. B may be symbolic, as jax.export has it.

  Args:
    step_logits: scores semantic tokens, [B, K, L].
    last_logits: scores the last token, [B, K, C].
    cache: what they need at step 0, arrays [B, 1, ...].
    trie: of all valid Rec-IDs.
    seen_BxS: int32 items never to be returned, -1 = padding.
    beam_width: K, from 1 to more than there are items.
    renormalise: see `masked_log_softmax`.
    skip_sure: ask the model for beams with a choice only, see `_next_log_p`;
      the results are the same.
    loop: runs the steps between; benchmarks compare others.
    allowed: of the same Rec-IDs; no other items are returned. Scores stay
      those of the whole catalogue.

  Returns:
    items int32 [B, K], best first, all different, valid and unseen; -1 where a
    user has fewer left. Scores float32 [B, K], -inf there.
  """
  B, K, M = seen_BxS.shape[0], beam_width, trie.levels
  exhausted = tries.exhausted_children(trie, seen_BxS, allowed)

  def step(beams: Beams) -> Beams:
    # These are inner nodes: their range does not depend on their length.
    _, count_BxK = trie.item_range(beams.node_BxK, 0)
    log_p, cache = _next_log_p(
      step_logits, lambda node, _: trie.children(node), beams, count_BxK > 1,
      skip_sure, renormalise,
    )  # fmt: skip
    if allowed is not None:
      alive = allowed.alive_PxL[beams.node_BxK]
      log_p = jnp.where(alive, log_p, NEG_INF)
    score, beam_BxK, token_BxK = _expand(
      beams.score_BxK, log_p, beams.node_BxK, exhausted, beams.step, K
    )
    parent_BxK = jnp.take_along_axis(beams.node_BxK, beam_BxK, axis=1)
    node_BxK = trie.child(parent_BxK, token_BxK)
    node_BxK = jnp.where(score > NEG_INF, node_BxK, 0)
    cache = _reorder(cache, beam_BxK)
    return Beams(beams.step + 1, score, node_BxK, token_BxK, cache)

  root_Bx1 = jnp.zeros((B, 1), jnp.int32)
  start = Beams(jnp.int32(0), jnp.zeros((B, 1)), root_Bx1, root_Bx1, cache)
  beams = loop(lambda b: b.step < M - 1, step, step(start))

  _, count_BxK = trie.item_range(beams.node_BxK, M - 1)
  log_p, _ = _next_log_p(
    last_logits, trie.last_tokens, beams, count_BxK > 1, skip_sure, renormalise
  )
  if allowed is not None:
    first_BxK, _ = trie.item_range(beams.node_BxK, M - 1)
    valid = allowed.tokens(first_BxK, log_p.shape[-1])
    log_p = jnp.where(valid, log_p, NEG_INF)
  score, beam_BxK, rank_BxK = _expand(
    beams.score_BxK, log_p, beams.node_BxK, exhausted, M - 1, K
  )
  node_BxK = jnp.take_along_axis(beams.node_BxK, beam_BxK, axis=1)
  item_BxK = trie.item(node_BxK, rank_BxK)
  return jnp.where(score > NEG_INF, item_BxK, -1), score
