"""How each kind of system recommends to the users of a data set."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mmgrec_jax.config import Config
from mmgrec_jax.data.dataset import TRAIN, Dataset, Rows
from mmgrec_jax.decoding.allowed import Allowed
from mmgrec_jax.decoding.generate import generate
from mmgrec_jax.decoding.rescore import rescore
from mmgrec_jax.decoding.trie import Trie
from mmgrec_jax.evaluation.ranking import (
  Ranker,
  Recommend,
  rank_by_inner_product,
  users_to_rank_for,
)
from mmgrec_jax.models.content import Content, content_score
from mmgrec_jax.models.generator import Generator, Vectors
from mmgrec_jax.models.item_item import scores_of

# What a search keeps of more users and beams than these leaves a CPU's caches.
CPU_USERS = 64
CPU_BEAMS = 2048


def inner_product_ranker(config: Config, data: Dataset, k: int) -> Ranker:
  """Ranks by h_u . h_i; its parameters are the pair (h_user, h_item)."""

  def recommend(params, user_B, history_BxH, seen_BxS):
    del history_BxH
    h_user, h_item = params
    return rank_by_inner_product(h_user, h_item, user_B, seen_BxS, k)

  users = users_to_rank_for(config.evaluation.batch_size, data.n_items)
  return Ranker(recommend, data.rows(TRAIN), users, config.seed)


def reads_in_time(config: Config, data: Dataset) -> bool:
  """Are histories read from the newest item on? Not without timestamps."""
  wanted = config.get("generator", {}).get("history_order") == "time"
  return wanted and data.timestamp_E is not None


def histories(config: Config, data: Dataset, split: int | None = TRAIN) -> Rows:
  """A split's items by user, in the order that `history_order` wants; None:
  all items."""
  if reads_in_time(config, data):
    return data.rows_newest_first(split)
  return data.rows(split)


class Search(NamedTuple):
  """What a beam search reads.

  weight_J: of `all_scores`, whose sum orders the beams; None: they are as
    they are.
  content: how alike items are by their features, for `all_scores`.
  ease_IxI: EASE's matrix, for the last of them; None: there is none.
  allowed: items that may be returned; None: any.
  """

  params: Any
  vectors: Vectors
  trie: Trie
  weight_J: Any = None
  content: tuple[Content, ...] = ()
  ease_IxI: Any = None
  allowed: Allowed | None = None


def beams_of(config: Config, model: Generator, beam_width: int) -> Recommend:
  """Recommends by beam search, re-scored; its parameters are a `Search`."""

  def beams(search: Search, user_B, history_BxH, seen_BxS):
    return generate(
      model,
      search.params,
      search.vectors,
      search.trie,
      user_B,
      history_BxH,
      config.generator.history_length,
      beam_width,
      allowed=search.allowed,
      seen_BxS=seen_BxS,
    )

  return rescored(beams)


def nearest(width: int) -> Recommend:
  """So many items with the largest h_u . h_i; its parameter is a `Search`."""

  def recommend(search: Search, user_B, history_BxH, seen_BxS):
    del history_BxH
    h_user, h_item = search.vectors.user_UxD, search.vectors.item_IxD
    return rank_by_inner_product(h_user, h_item, user_B, seen_BxS, width)

  return recommend


def rescored(candidates: Recommend) -> Recommend:
  """Its items in the order of a `Search`, which is its parameter, too."""

  def recommend(search: Search, user_B, history_BxH, seen_BxS):
    items_BxK, score_BxK = candidates(search, user_B, history_BxH, seen_BxS)
    if search.weight_J is None:
      return items_BxK, score_BxK
    scores_BxJxK = all_scores(search, user_B, history_BxH, items_BxK, score_BxK)
    return rescore(items_BxK, scores_BxJxK, search.weight_J)

  return recommend


def beam_ranker(
  config: Config, data: Dataset, model: Generator, beam_width: int
) -> Ranker:
  """Ranks by beam search; its parameters are a `Search`."""
  recommend = beams_of(config, model, beam_width)
  users = users_at_a_time(config, beam_width)
  return history_ranker(config, data, recommend, users)


def users_at_a_time(config: Config, beam_width: int) -> int:
  """Whose beams a device follows together."""
  users = config.evaluation.batch_size
  if jax.default_backend() == "cpu":
    return max(1, min(users, CPU_USERS, CPU_BEAMS // beam_width))
  return users


def history_ranker(
  config: Config, data: Dataset, recommend: Any, batch_size: int
) -> Any:
  """A Ranker whose histories are in the order that `history_order` wants.

  Args:
    recommend: as `Ranker` has it; but it may return any arrays [B, ...].
  """
  return Ranker(
    recommend,
    histories(config, data),
    batch_size,
    seed=None if reads_in_time(config, data) else config.seed,
  )


def all_scores(
  search: Search,
  user_B: jax.Array,
  history_BxH: jax.Array,
  items_BxK: jax.Array,
  score_BxK: jax.Array,
) -> jax.Array:
  """The beams' scores, h_u . h_i, content's and EASE's, of their items.

  Returns:
    [B, J, K], in this order; of an item -1, any number.
  """
  inner_BxK = jnp.einsum(
    "bd,bkd->bk",
    search.vectors.user_UxD[user_B],
    search.vectors.item_IxD[jnp.maximum(items_BxK, 0)],
  )
  scores = [score_BxK, inner_BxK]
  for content in search.content:
    scores.append(content_score(content, history_BxH, items_BxK))
  if search.ease_IxI is not None:
    scores.append(scores_of(search.ease_IxI, history_BxH, items_BxK))
  return jnp.stack(scores, axis=1)
