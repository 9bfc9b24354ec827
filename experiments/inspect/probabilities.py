"""Are the generator's probabilities right, and does the beam find them?"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.inspect.finished import Finished
from mmgrec_jax.data.dataset import SPLITS, Rows
from mmgrec_jax.decoding.log_probs import at_tokens, token_log_probs
from mmgrec_jax.decoding.trie import Trie
from mmgrec_jax.evaluation import metrics
from mmgrec_jax.evaluation.evaluate import score_lists
from mmgrec_jax.evaluation.ranking import rank_unseen
from mmgrec_jax.models.generator import Generator, Vectors, profile_of
from mmgrec_jax.serving.trained import Reloaded
from mmgrec_jax.stages import rankers
from mmgrec_jax.training import parallel

WIDTHS = (10, 20, 50)  # of beams
K = 10
ITEMS_AT_ONCE = 256
USERS_AT_ONCE = 16


def of_generator(
  run: Finished, generator: Reloaded, users: np.ndarray
) -> dict[str, Any]:
  """Calibration, beam regret and levels, over some users of the split.

  `wasted_probability` is what lies on items that a user has seen and, if the
  softmax is over the whole vocabulary, on no item.
  """
  truth = run.data.rows(SPLITS[run.split])
  exact = exact_ranker(run, generator.model, max(WIDTHS))
  search = parallel.replicate(generator.search)
  exact_items, _, log_unseen_N = exact(search, users)
  recall = lambda items: float(
    score_lists(items, users, run.data, run.split, [K])[f"recall@{K}"].mean()
  )
  beams = {}
  for width in WIDTHS:
    ranker = run.ranker_of(
      rankers.beam_ranker(run.config, run.data, generator.model, width)
    )
    items, scores = ranker(search, users)
    beams[str(width)] = {
      "found": share_found(items[:, :K], exact_items[:, :K]),
      "recall@10": recall(items),
    }
  return {
    "exact_recall@10": recall(exact_items),
    "beams": beams,
    "wasted_probability": float(1 - np.exp(log_unseen_N).mean()),
    "calibration": {
      "top": calibrate(items[:, :1], scores, log_unseen_N, users, truth),
      "beams": calibrate(items, scores, log_unseen_N, users, truth),
    },
    "levels": token_accuracy(run, generator, users),
  }


def log_probs(
  model: Generator,
  params: Any,
  vectors: Vectors,
  trie: Trie,
  user_B: jax.Array,
  history_BxH: jax.Array,
  history_length: int,
  item_BxT: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """`token_log_probs`, teacher-forced on what `generate` reads of histories."""
  logits: Any = model.apply(
    {"params": params},
    vectors,
    user_B,
    history_BxH[:, :history_length],
    trie.tokens(item_BxT),
    train=False,
    profile_BxD=profile_of(model, vectors, history_BxH),
  )
  semantic, last = logits
  return token_log_probs(semantic, last, trie, item_BxT, model.trie_softmax)


def log_probs_of_all(
  model: Generator,
  params: Any,
  vectors: Vectors,
  trie: Trie,
  user_B: jax.Array,
  history_BxH: jax.Array,
  history_length: int,
) -> jax.Array:
  """The log-probability of every item. float32 [B, I]."""
  items = len(trie.item_I)
  size = min(ITEMS_AT_ONCE, items)

  def of_chunk(item_C):
    item_BxC = jnp.broadcast_to(item_C, (len(user_B), size))
    log_p = log_probs(
      model, params, vectors, trie, user_B, history_BxH, history_length,
      item_BxC,
    )  # fmt: skip
    return at_tokens(log_p, trie.tokens(item_BxC)).sum(axis=-1)

  padded = jnp.pad(jnp.arange(items), (0, -items % size))
  log_p_GxBxC = jax.lax.map(of_chunk, padded.reshape(-1, size))
  return jnp.moveaxis(log_p_GxBxC, 0, 1).reshape(len(user_B), -1)[:, :items]


def exact_ranker(run: Finished, model: Generator, k: int) -> Callable[..., Any]:
  """The best k of all unseen items and their log-probabilities; and the log of
  what all unseen items have together, [N]."""
  length = run.config.generator.history_length

  def recommend(search, user_B, history_BxH, seen_BxS):
    log_p_BxI = log_probs_of_all(
      model,
      search.params,
      search.vectors,
      search.trie,
      user_B,
      history_BxH,
      length,
    )
    everyone = max(log_p_BxI.shape[1], k)
    items, scores = rank_unseen(log_p_BxI, seen_BxS, everyone)
    log_unseen_B = jax.nn.logsumexp(scores, axis=1)
    return items[:, :k], scores[:, :k], log_unseen_B

  return run.ranker_of(
    rankers.history_ranker(run.config, run.data, recommend, USERS_AT_ONCE)
  )


def share_found(items_NxK: np.ndarray, exact_NxK: np.ndarray) -> float:
  """Of each user's exact list (-1 = ended early), the mean over users."""
  common = items_NxK[:, None, :] == exact_NxK[:, :, None]
  real_NxK = exact_NxK >= 0
  found_N = (common.any(axis=2) & real_NxK).sum(axis=1)
  return float((found_N / np.maximum(real_NxK.sum(axis=1), 1)).mean())


def calibrate(
  items_NxK: np.ndarray,
  scores_NxK: np.ndarray,
  log_unseen_N: np.ndarray,
  users: np.ndarray,
  truth: Rows,
) -> dict[str, Any]:
  """Probabilities of listed items against how often they come true.

  The generator predicts one item: what a user takes next among the unseen. So
  its probability, divided by that of all unseen items, is compared with the
  chance that one of the user's items of the split, taken at random, is this.
  """
  k = items_NxK.shape[1]
  real_NxK = items_NxK >= 0
  p_NxK = np.exp(scores_NxK[:, :k] - log_unseen_N[:, None])
  n_items = int(max(items_NxK.max(), truth.items.max())) + 1
  hit_NxK = metrics.hits(items_NxK, users, truth, n_items)
  came_true_NxK = hit_NxK / truth.lengths[users][:, None]
  return calibration(p_NxK[real_NxK], came_true_NxK[real_NxK])


def calibration(
  p_N: np.ndarray, came_true_N: np.ndarray, n_buckets: int = 10
) -> dict[str, Any]:
  """Buckets of as many predictions each, by probability, and their mean gap.

  The gap is the expected calibration error (Naeini et al. 2015), here with
  buckets of equal count: most probabilities are small.
  """
  order = np.argsort(p_N, kind="stable")
  parts = [part for part in np.array_split(order, n_buckets) if len(part)]
  found = [
    {
      "predicted": float(p_N[part].mean()),
      "came_true": float(came_true_N[part].mean()),
      "count": len(part),
    }
    for part in parts
  ]
  gaps = [b["count"] * abs(b["predicted"] - b["came_true"]) for b in found]
  return {"ece": sum(gaps) / len(p_N), "buckets": found}


def token_accuracy(
  run: Finished, generator: Reloaded, users: np.ndarray
) -> list[dict[str, float]]:
  """Each level's token of the users' items, given the right ones before it.

  `choices`: tokens that the trie allows there, on average.
  """
  targets_UxT = padded_rows(run.data.rows(SPLITS[run.split]))
  length = run.config.generator.history_length

  def recommend(arguments, user_B, history_BxH, seen_BxS):
    del seen_BxS
    targets_UxT, search = arguments
    item_BxT = jnp.maximum(targets_UxT[user_B], 0)
    return token_ranks(
      generator.model,
      search.params,
      search.vectors,
      search.trie,
      user_B,
      history_BxH,
      length,
      item_BxT,
    )

  better_NxTxM, choices_NxTxM = rankers.history_ranker(
    run.config, run.data, recommend, USERS_AT_ONCE
  )(parallel.replicate((targets_UxT, generator.search)), users)
  real_NxT = targets_UxT[users] >= 0
  return [
    {
      "top1": float((better == 0).mean()),
      "top10": float((better < 10).mean()),
      "choices": float(choices.mean()),
    }
    for better, choices in zip(
      better_NxTxM[real_NxT].T, choices_NxTxM[real_NxT].T, strict=True
    )
  ]


def token_ranks(
  model: Generator,
  params: Any,
  vectors: Vectors,
  trie: Trie,
  user_B: jax.Array,
  history_BxH: jax.Array,
  history_length: int,
  item_BxT: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """How many allowed tokens are likelier than each right one, and how many are
  allowed; both [B, T, M]."""
  log_p = log_probs(
    model, params, vectors, trie, user_B, history_BxH, history_length, item_BxT
  )
  semantic, last = log_p
  own_BxTxM = at_tokens(log_p, trie.tokens(item_BxT))
  count = lambda semantic, last: jnp.concatenate(
    [semantic.sum(axis=-1), last.sum(axis=-1)[..., None]], axis=-1
  )
  better_BxTxM = count(
    semantic > own_BxTxM[..., :-1, None], last > own_BxTxM[..., -1:]
  )
  return better_BxTxM, count(semantic > -jnp.inf, last > -jnp.inf)


def padded_rows(rows: Rows) -> np.ndarray:
  """Each user's items, -1 after the last, int32 [U, T]."""
  place = np.arange(rows.lengths.max(initial=1))
  own = place < rows.lengths[:, None]
  out = np.full(own.shape, -1, np.int32)
  out[own] = rows.items
  return out
