"""Stage 4's end: the beams in the order that more than one model gives them.

A beam's score is the generator's. It is mixed with h_u . h_i and with the score
of EASE, a matrix of items by items (models/item_item.py): they see different
things in the same history. How much of each is chosen on validation.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmgrec_jax.config import Config
from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.decoding.rescore import rescore
from mmgrec_jax.evaluation.evaluate import countable_users, score_lists
from mmgrec_jax.evaluation.ranking import Ranker
from mmgrec_jax.models.generator import Generator
from mmgrec_jax.models.item_item import ease_gib
from mmgrec_jax.stages.item_item import make_matrix
from mmgrec_jax.stages.rankers import (
  Search,
  beam_ranker,
  beams_of,
  history_ranker,
  other_scores,
  users_at_a_time,
)
from mmgrec_jax.training import parallel
from mmgrec_jax.workdir import Workdir

# Share of EASE -> weight -> Recall@10: what rescore.json holds.
Found = Mapping[str, Mapping[str, float]]


def rescored_beams(
  config: Config,
  data: Dataset,
  folder: Workdir,
  model: Generator,
  search: Search,
) -> dict[str, tuple[Ranker, Search]]:
  """`generator`, the beams as they are, and `mmgrec`, the best mix.

  With EASE in the mix there is `without_ease` between them. Every mix's
  Recall@10 on validation is kept in rescore.json.
  """
  search = search._replace(ease_IxI=_ease(config, data, folder))
  found = folder.read_json("rescore.json")
  if found is None:
    found = _recall_by_mix(config, data, model, search)
    folder.write_json("rescore.json", found)
  _show(found)
  # One program for all of them: only the weights differ.
  ranker = beam_ranker(config, data, model, config.evaluation.beam_width)
  mixed = lambda share, weight: (
    ranker,
    search._replace(weight_J=_weights(search, share, weight)),
  )
  systems = {"generator": mixed(0.0, 0.0)}
  if search.ease_IxI is not None and "0.0" in found:
    systems["without_ease"] = mixed(*best_mix({"0.0": found["0.0"]}))
  return {**systems, "mmgrec": mixed(*best_mix(found))}


def best_mix(found: Found) -> tuple[float, float]:
  """Share and weight, the first of the best in rescore.json."""
  of_mix = {
    (float(share), float(weight)): recall
    for share, by_weight in found.items()
    for weight, recall in by_weight.items()
  }
  return max(of_mix, key=lambda mix: of_mix[mix])


def read_mix(folder: Path, search: Search, found: Found) -> Search:
  """A search with the best mix of a run in a folder."""
  share, weight = best_mix(found)
  if share:
    with np.load(folder / "item_item.npz", allow_pickle=False) as saved:
      search = search._replace(ease_IxI=_known(saved["weight_IxI"]))
  return search._replace(weight_J=_weights(search, share, weight))


def _known(weight_IxI: np.ndarray) -> jax.Array:
  """EASE's matrix, with NaN for what it says of an item without users."""
  weight_IxI[:, ~weight_IxI.any(axis=0)] = np.nan
  return jnp.asarray(weight_IxI)


def _ease(config: Config, data: Dataset, folder: Workdir) -> jax.Array | None:
  """The matrix, made or read; None: it is not wanted, or too large."""
  settings, need = config.evaluation.ease, ease_gib(data.n_items)
  if not any(settings.shares):
    return None
  if need > settings.max_gib:
    print(
      f"re-scoring goes without EASE: {data.n_items:,} items would take"
      f" {need:,.1f} GiB, more than config.evaluation.ease.max_gib,"
      f" {settings.max_gib}"
    )
    return None
  return _known(make_matrix("ease", settings, data, folder)["weight_IxI"])


def _weights(search: Search, share: float, weight: float) -> np.ndarray:
  """Of `other_scores`, which add up to `weight`."""
  if search.ease_IxI is None:
    return np.array([weight], np.float32)
  return np.array([(1 - share) * weight, share * weight], np.float32)


def _recall_by_mix(
  config: Config, data: Dataset, model: Generator, search: Search
) -> dict[str, dict[str, float]]:
  """Validation Recall@10 of each mix: one search, re-ordered for each."""
  width = config.evaluation.beam_width
  beams = beams_of(config, model, width)

  def candidates(search: Search, user_B, history_BxH) -> tuple[Any, ...]:
    items_BxK, score_BxK = beams(search, user_B, history_BxH)
    others = other_scores(search, user_B, history_BxH, items_BxK)
    return items_BxK, score_BxK, others

  ranker = history_ranker(
    config, data, candidates, users_at_a_time(config, width)
  )
  users = countable_users(data, "valid")
  found = ranker(parallel.replicate(search), users)
  items_NxK, score_NxK, others_NxJxK = map(jnp.asarray, found)

  def recall(share: float, weight: float) -> float:
    lists_NxK, _ = rescore(
      items_NxK, score_NxK, others_NxJxK, _weights(search, share, weight)
    )
    scores = score_lists(np.asarray(lists_NxK), users, data, "valid", [10])
    return float(scores["recall@10"].mean())

  shares = (0.0,) if search.ease_IxI is None else config.evaluation.ease.shares
  return {
    str(float(share)): {
      str(float(weight)): recall(share, weight)
      for weight in config.evaluation.rescore
    }
    for share in shares
  }


def _show(found: Found) -> None:
  share, weight = best_mix(found)
  best = {share: max(recalls.values()) for share, recalls in found.items()}
  listed = lambda recalls: ", ".join(
    f"{k}: {v:.4f}" for k, v in recalls.items()
  )
  print(
    f"re-scoring beams at weight {weight}, of which EASE has {share:.0%} and"
    f" h_u . h_i the rest (validation Recall@10 by weight:"
    f" {listed(found[str(share)])}; by EASE's share: {listed(best)})"
  )
