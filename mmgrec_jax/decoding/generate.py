"""From histories to lists of unseen items: the generator and beam search."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from mmgrec_jax.decoding import beam_search
from mmgrec_jax.decoding import trie as tries
from mmgrec_jax.decoding.allowed import Allowed
from mmgrec_jax.models.generator import Generator, Vectors, profile_of


def generate(
  model: Generator,
  params,
  vectors: Vectors,
  trie: tries.Trie,
  user_B: jax.Array,
  history_BxH: jax.Array,
  history_length: int,
  beam_width: int,
  loop: Callable = jax.lax.while_loop,
  allowed: Allowed | None = None,
  seen_BxS: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Beam search for the best unseen items: items and scores, [B, K].

  Args:
    history_BxH: the user's items, -1 = padding last. The first
      `history_length` are read.
    loop, allowed: see `beam_search`.
    seen_BxS: items never to be returned, -1 = padding; None: the history.
  """
  call: Any = functools.partial(model.apply, {"params": params})
  read_BxN = history_BxH[:, :history_length]
  memory = call(
    vectors,
    user_B,
    read_BxN,
    train=False,
    profile_BxD=profile_of(model, vectors, history_BxH),
    method="encode",
  )

  def step_logits(token_BxK, step, cache):
    x, cache = call(token_BxK, step, cache, memory, method="decode_step")
    return call(x, step, method="semantic_logits"), cache

  def last_logits(token_BxK, step, cache):
    x, cache = call(token_BxK, step, cache, memory, method="decode_step")
    return call(x, method="last_logits"), cache

  return beam_search.beam_search(
    step_logits,
    last_logits,
    call(user_B.shape[0], 1, method="empty_cache"),
    trie,
    history_BxH if seen_BxS is None else seen_BxS,
    beam_width,
    renormalise=model.trie_softmax,
    skip_sure=model.skip_sure,
    loop=loop,
    allowed=allowed,
  )
