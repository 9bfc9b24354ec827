"""Stage 4's end: the beams in the order that more than one model gives them.

A beam's score is the generator's. It is mixed with h_u . h_i, with how alike an
item is in each modality to what the user has (models/content.py) and with the
score of EASE (models/item_item.py): they see different things in the same
history. How much of each is chosen on validation, one after the other: each
takes a share of the mix of those before it.
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
from mmgrec_jax.stages.content import make_content, read_content
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

# Who joins the mix -> their share of it -> the mix's weight -> Recall@10, in
# the order of joining: what rescore.json holds.
Found = Mapping[str, Mapping[str, Mapping[str, float]]]

EMBEDDING = "embedding"  # h_u . h_i, the first
EASE = "ease"  # the last


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
  content = make_content(config, data, folder)
  ease_IxI = _ease(config, data, folder)
  search = search._replace(content=tuple(content.values()), ease_IxI=ease_IxI)
  found = folder.read_json("rescore.json")
  if found is None:
    found = _recall_by_mix(config, data, model, search, list(content))
    folder.write_json("rescore.json", found)
  _show(found)
  # One program for all of them: only the weights differ.
  ranker = beam_ranker(config, data, model, config.evaluation.beam_width)
  weight_J = weights(found)
  mixed = lambda weight_J: (ranker, search._replace(weight_J=weight_J))
  systems = {"generator": mixed(0 * weight_J)}
  if EASE in found:
    before = {name: tried for name, tried in found.items() if name != EASE}
    systems["without_ease"] = mixed(np.append(weights(before), np.float32(0)))
  return {**systems, "mmgrec": mixed(weight_J)}


def weights(found: Found) -> np.ndarray:
  """Of `other_scores`, float32 [J]: the first of the best mixes."""
  part_J, weight = np.zeros(0), 0.0
  for tried in found.values():
    share, weight = _best(tried)
    part_J = _joined(part_J, share)
  return (weight * part_J).astype(np.float32)


def read_mix(folder: Path, search: Search, found: Found) -> Search:
  """A search with the best mix of a run in a folder: what has a part in it."""
  joined = {
    name: weight
    for name, weight in zip(found, weights(found), strict=True)
    if weight or name == EMBEDDING
  }
  alike = [name for name in joined if name not in (EMBEDDING, EASE)]
  if alike:
    content = read_content(folder / "content.npz")
    search = search._replace(content=tuple(content[name] for name in alike))
  if EASE in joined:
    with np.load(folder / "item_item.npz", allow_pickle=False) as saved:
      search = search._replace(ease_IxI=_known(saved["weight_IxI"]))
  return search._replace(weight_J=np.array([*joined.values()], np.float32))


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


def _known(weight_IxI: np.ndarray) -> jax.Array:
  """EASE's matrix, with NaN for what it says of an item without users."""
  weight_IxI[:, ~weight_IxI.any(axis=0)] = np.nan
  return jnp.asarray(weight_IxI)


def _joined(part_J: np.ndarray, share: float) -> np.ndarray:
  """Parts of a mix, adding up to 1, when one more takes a share of it."""
  return np.append((1 - share) * part_J, share)


def _best(tried: Mapping[str, Mapping[str, float]]) -> tuple[float, float]:
  """Share and weight of the first of the largest numbers."""
  recall = {
    (float(share), float(weight)): number
    for share, by_weight in tried.items()
    for weight, number in by_weight.items()
  }
  return max(recall, key=lambda mix: recall[mix])


def _recall_by_mix(
  config: Config,
  data: Dataset,
  model: Generator,
  search: Search,
  content: list[str],
) -> dict[str, dict[str, dict[str, float]]]:
  """Validation Recall@10 of each mix: one search, re-ordered for each."""
  recall_of = _validation(config, data, model, search)
  chosen = config.evaluation
  shares = {EMBEDDING: (1.0,), **dict.fromkeys(content, chosen.content.shares)}
  if search.ease_IxI is not None:
    shares[EASE] = chosen.ease.shares
  found: dict[str, dict[str, dict[str, float]]] = {}
  part_J = np.zeros(0)
  for name, of_name in shares.items():
    absent = np.zeros(len(shares) - len(found) - 1)
    found[name] = {
      str(float(share)): {
        str(float(weight)): recall_of(
          weight * np.append(_joined(part_J, share), absent)
        )
        for weight in chosen.rescore
      }
      for share in of_name
    }
    part_J = _joined(part_J, _best(found[name])[0])
  return found


def _validation(
  config: Config, data: Dataset, model: Generator, search: Search
) -> Any:
  """Recall@10 on validation as a function of `weight_J`."""
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

  def recall(weight_J: np.ndarray) -> float:
    lists_NxK, _ = rescore(
      items_NxK, score_NxK, others_NxJxK, weight_J.astype(np.float32)
    )
    scores = score_lists(np.asarray(lists_NxK), users, data, "valid", [10])
    return float(scores["recall@10"].mean())

  return recall


def _show(found: Found) -> None:
  weight_J = weights(found)
  total = max(float(weight_J.sum()), 1e-12)
  mix = ", ".join(
    f"{name} {part / total:.0%}"
    for name, part in zip(found, weight_J, strict=True)
  )
  best = ", ".join(
    f"{name} {max(max(of.values()) for of in tried.values()):.4f}"
    for name, tried in found.items()
  )
  print(
    f"re-scoring beams at weight {weight_J.sum():g}: {mix}"
    f" (validation Recall@10 as each joins: {best})"
  )
