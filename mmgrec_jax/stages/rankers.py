"""How each kind of system recommends to the users of a data set."""

import jax.numpy as jnp
import numpy as np

from mmgrec_jax.config import Config
from mmgrec_jax.data.dataset import TRAIN, Dataset, Rows
from mmgrec_jax.decoding.rescore import rescore
from mmgrec_jax.evaluation.evaluate import evaluate
from mmgrec_jax.evaluation.ranking import Ranker, rank_by_inner_product
from mmgrec_jax.models.generator import Generator, generate
from mmgrec_jax.training import parallel
from mmgrec_jax.workdir import Workdir


def inner_product_ranker(config: Config, data: Dataset, k: int) -> Ranker:
  """Ranks by h_u . h_i; its parameters are the pair (h_user, h_item)."""

  def recommend(params, user_B, history_BxH):
    h_user, h_item = params
    return rank_by_inner_product(h_user, h_item, user_B, history_BxH, k)

  return Ranker(
    recommend, data.rows(TRAIN), config.evaluation.batch_size, config.seed
  )


def histories(config: Config, data: Dataset) -> Rows:
  """Training items by user, in the order that `history_order` wants."""
  if config.generator.history_order == "time":
    return data.rows_newest_first(TRAIN)
  return data.rows(TRAIN)


def beam_ranker(
  config: Config,
  data: Dataset,
  model: Generator,
  beam_width: int,
  rescored: bool = False,
) -> Ranker:
  """Ranks by beam search; its parameters are (params, vectors, trie).

  Rescored, a weight comes last, and h_u . h_i of the candidates counts too.
  """

  def recommend(params, user_B, history_BxH):
    weights, vectors, trie, *weight = params
    items_BxK, score_BxK = generate(
      model,
      weights,
      vectors,
      trie,
      user_B,
      history_BxH,
      config.generator.history_length,
      beam_width,
    )
    if not rescored:
      return items_BxK, score_BxK
    inner_BxK = jnp.einsum(
      "bd,bkd->bk",
      vectors.user_UxD[user_B],
      vectors.item_IxD[jnp.maximum(items_BxK, 0)],
    )
    return rescore(items_BxK, score_BxK, inner_BxK, *weight)

  in_order = config.generator.history_order == "time"
  return Ranker(
    recommend,
    histories(config, data),
    config.evaluation.batch_size,
    seed=None if in_order else config.seed,
  )


def rescored_beams(
  config: Config,
  data: Dataset,
  folder: Workdir,
  model: Generator,
  params: tuple,
) -> tuple[Ranker, tuple]:
  """The re-scored ranker with the weight that is best on validation.

  Every weight's Recall@10 is kept in rescore.json.

  Args:
    params: of `beam_ranker`, but the weight.
  """
  width = config.evaluation.beam_width
  ranker = beam_ranker(config, data, model, width, rescored=True)
  found = folder.read_json("rescore.json")
  if found is None:
    on_all = parallel.replicate(params)

    def recall(weight: float) -> float:
      arguments = (*on_all, parallel.replicate(np.float32(weight)))
      scores = evaluate(ranker, arguments, data, "valid", [10])
      return float(scores["recall@10"].mean())

    found = {str(w): recall(w) for w in config.evaluation.rescore}
    folder.write_json("rescore.json", found)
  best = max(found, key=lambda weight: found[weight])
  shown = ", ".join(f"{weight}: {score:.4f}" for weight, score in found.items())
  print(
    f"re-scoring beams by h_u . h_i at weight {best}"
    f" (validation Recall@10 by weight: {shown})"
  )
  return ranker, (*params, np.float32(best))
