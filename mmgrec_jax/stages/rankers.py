"""How each kind of system recommends to the users of a data set."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmgrec_jax.config import Config
from mmgrec_jax.data.dataset import TRAIN, Dataset, Rows
from mmgrec_jax.decoding.allowed import Allowed
from mmgrec_jax.decoding.generate import generate
from mmgrec_jax.decoding.rescore import rescore
from mmgrec_jax.decoding.trie import Trie
from mmgrec_jax.evaluation.evaluate import countable_users, score_lists
from mmgrec_jax.evaluation.ranking import (
  Ranker,
  Recommend,
  rank_by_inner_product,
  users_to_rank_for,
)
from mmgrec_jax.models.generator import Generator, Vectors
from mmgrec_jax.training import parallel
from mmgrec_jax.workdir import Workdir

# What a search keeps of more beams than these leaves a CPU's caches, and each
# then takes up to three times as long.
CPU_BEAMS = 2048


def inner_product_ranker(config: Config, data: Dataset, k: int) -> Ranker:
  """Ranks by h_u . h_i; its parameters are the pair (h_user, h_item)."""

  def recommend(params, user_B, history_BxH):
    h_user, h_item = params
    return rank_by_inner_product(h_user, h_item, user_B, history_BxH, k)

  users = users_to_rank_for(config.evaluation.batch_size, data.n_items)
  return Ranker(recommend, data.rows(TRAIN), users, config.seed)


def histories(config: Config, data: Dataset) -> Rows:
  """Training items by user, in the order that `history_order` wants."""
  if config.generator.history_order == "time":
    return data.rows_newest_first(TRAIN)
  return data.rows(TRAIN)


class Search(NamedTuple):
  """What a beam search reads.

  weight: of h_u . h_i in the order of the beams; None: the beams as they are.
  allowed: items that may be returned; None: any.
  """

  params: Any
  vectors: Vectors
  trie: Trie
  weight: Any = None
  allowed: Allowed | None = None


def beams_of(config: Config, model: Generator, beam_width: int) -> Recommend:
  """Recommends by beam search; its parameters are a `Search`."""

  def recommend(search: Search, user_B, history_BxH):
    items_BxK, score_BxK = generate(
      model,
      search.params,
      search.vectors,
      search.trie,
      user_B,
      history_BxH,
      config.generator.history_length,
      beam_width,
      allowed=search.allowed,
    )
    if search.weight is None:
      return items_BxK, score_BxK
    inner_BxK = inner_products(search.vectors, user_B, items_BxK)
    return rescore(items_BxK, score_BxK, inner_BxK, search.weight)

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
    return max(1, min(users, CPU_BEAMS // beam_width))
  return users


def history_ranker(
  config: Config, data: Dataset, recommend: Any, batch_size: int
) -> Any:
  """A Ranker whose histories are in the order that `history_order` wants.

  Args:
    recommend: as `Ranker` has it; but it may return any arrays [B, ...].
  """
  in_order = config.generator.history_order == "time"
  return Ranker(
    recommend,
    histories(config, data),
    batch_size,
    seed=None if in_order else config.seed,
  )


def inner_products(
  vectors: Vectors, user_B: jax.Array, items_BxK: jax.Array
) -> jax.Array:
  """h_u . h_i of each user's candidates, [B, K]; of -1, any number."""
  return jnp.einsum(
    "bd,bkd->bk",
    vectors.user_UxD[user_B],
    vectors.item_IxD[jnp.maximum(items_BxK, 0)],
  )


def rescored_beams(
  config: Config,
  data: Dataset,
  folder: Workdir,
  beams: tuple[Ranker, Search],
) -> tuple[Ranker, Search]:
  """The beams re-scored with the weight that is best on validation.

  Every weight's Recall@10 is kept in rescore.json.
  """
  ranker, search = beams
  found = folder.read_json("rescore.json")
  if found is None:
    found = _recall_by_weight(config, data, ranker, search)
    folder.write_json("rescore.json", found)
  best = best_weight(found)
  shown = ", ".join(f"{weight}: {score:.4f}" for weight, score in found.items())
  print(
    f"re-scoring beams by h_u . h_i at weight {best}"
    f" (validation Recall@10 by weight: {shown})"
  )
  return ranker, search._replace(weight=np.float32(best))


def best_weight(recall_by_weight: dict[str, float]) -> str:
  """The first of the best in rescore.json."""
  return max(recall_by_weight, key=lambda weight: recall_by_weight[weight])


def _recall_by_weight(
  config: Config, data: Dataset, plain: Ranker, search: Search
) -> dict[str, float]:
  """Validation Recall@10 of each weight: one search, re-ordered for each."""
  users = countable_users(data, "valid")
  items_NxK, score_NxK = map(
    jnp.asarray, plain(parallel.replicate(search), users)
  )
  user_N = jnp.asarray(users)
  size = config.evaluation.batch_size
  inner_NxK = jnp.concatenate(
    [
      inner_products(
        search.vectors, user_N[i : i + size], items_NxK[i : i + size]
      )
      for i in range(0, len(users), size)
    ]
  )

  def recall(weight: float) -> float:
    lists_NxK, _ = rescore(items_NxK, score_NxK, inner_NxK, weight)
    scores = score_lists(np.asarray(lists_NxK), users, data, "valid", [10])
    return float(scores["recall@10"].mean())

  return {str(weight): recall(weight) for weight in config.evaluation.rescore}
