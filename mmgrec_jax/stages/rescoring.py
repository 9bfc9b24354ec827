"""Stage 4's end: the beams in the order that more than one model gives them.

A beam's score is the generator's. It is mixed with h_u . h_i, with how alike an
item is in each modality to what the user has (models/content.py) and with the
score of EASE (models/item_item.py): they see different things in the same
history. How much of each is chosen on validation, one after the other: each
takes a share of the mix of those before it. The features' score that helps
most is the next to join; EASE is the last.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmgrec_jax.config import Config
from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.decoding.rescore import rescore
from mmgrec_jax.errors import UserError
from mmgrec_jax.evaluation.evaluate import countable_users, score_lists
from mmgrec_jax.evaluation.ranking import Ranker
from mmgrec_jax.files import AGAIN, check_json, is_made, read_json
from mmgrec_jax.models.generator import Generator
from mmgrec_jax.models.item_item import ease_gib
from mmgrec_jax.stages.content import make_content, read_content
from mmgrec_jax.stages.item_item import make_matrix, read_matrix
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
  names = [EMBEDDING, *content] + [EASE] * (ease_IxI is not None)
  if is_made(folder.path / "rescore.json"):
    found = read_found(folder.path)
  else:
    found = _recall_by_mix(config, data, model, search, names)
    folder.write_json("rescore.json", found)
  _show(found)
  # One program for all of them: only the weights differ.
  ranker = beam_ranker(config, data, model, config.evaluation.beam_width)
  mixed = lambda weight_of: (
    ranker,
    search._replace(weight_J=_in_order(weight_of, names)),
  )
  systems = {"generator": mixed({})}
  if EASE in found:
    before = {name: tried for name, tried in found.items() if name != EASE}
    systems["without_ease"] = mixed(weights(before))
  return {**systems, "mmgrec": mixed(weights(found))}


def weights(found: Found) -> dict[str, float]:
  """Of each in the first of the best mixes, by name."""
  *_, last = found.values()
  _, weight = _best(last)
  return {name: weight * part for name, part in _parts(found).items()}


def read_found(folder: Path) -> Found:
  """What rescore.json holds.

  Raises:
    UserError: it is missing, damaged, or of an earlier version.
  """
  path = folder / "rescore.json"
  found = read_json(path, AGAIN)
  if EMBEDDING not in found:
    raise UserError(
      f"{path} is of an earlier version, which mixed less. Give the run's"
      " command again, with another --workdir."
    )
  check_json(path, found, AGAIN, {str: {str: {str: float}}})
  try:
    weights(found)
    for tried in found.values():
      _recall(tried)
  except ValueError as error:  # a share or weight that is none, or no mix
    raise UserError(f"{path}: damaged ({error}); {AGAIN}.") from error
  return found


def read_mix(
  folder: Path, search: Search, found: Found, n_items: int
) -> Search:
  """A search with the best mix of a run in a folder: what has a part in it.

  Raises:
    UserError: a file with a part is missing or damaged.
  """
  joined = {
    name: weight
    for name, weight in weights(found).items()
    if weight or name == EMBEDDING
  }
  alike = [name for name in joined if name not in (EMBEDDING, EASE)]
  if alike:
    content = read_content(folder / "content.npz", n_items)
    for name in alike:
      if name not in content:
        raise UserError(
          f"{folder / 'content.npz'}: has no {name!r}, which has a part in"
          f" rescore.json; {AGAIN}."
        )
    search = search._replace(content=tuple(content[name] for name in alike))
  if EASE in joined:
    matrix = read_matrix(folder / "item_item.npz", "ease", n_items)
    search = search._replace(ease_IxI=_known(matrix["weight_IxI"]))
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


def _joined(mix: Mapping[str, float], name: str, share: float) -> dict:
  """Parts of a mix, adding up to 1, when one more takes a share of it."""
  return {**{old: (1 - share) * part for old, part in mix.items()}, name: share}


def _parts(found: Found) -> dict[str, float]:
  """Of the mix of all who joined."""
  mix: dict[str, float] = {}
  for name, tried in found.items():
    share, _ = _best(tried)
    mix = _joined(mix, name, share)
  return mix


def _in_order(weight_of: Mapping[str, float], names: list[str]) -> np.ndarray:
  """Of `other_scores`, which are those of the names. float32 [J]."""
  return np.array([weight_of.get(name, 0.0) for name in names], np.float32)


def _best(tried: Mapping[str, Mapping[str, float]]) -> tuple[float, float]:
  """Share and weight of the first of the largest numbers."""
  recall = {
    (float(share), float(weight)): number
    for share, by_weight in tried.items()
    for weight, number in by_weight.items()
  }
  return max(recall, key=lambda mix: recall[mix])


def _recall(tried: Mapping[str, Mapping[str, float]]) -> float:
  return max(max(by_weight.values()) for by_weight in tried.values())


def _recall_by_mix(
  config: Config,
  data: Dataset,
  model: Generator,
  search: Search,
  names: list[str],
) -> dict[str, dict[str, dict[str, float]]]:
  """Validation Recall@10 of each mix: one search, re-ordered for each."""
  recall_of = _validation(config, data, model, search)
  found: dict[str, dict[str, dict[str, float]]] = {}

  def tried(name: str, shares: tuple[float, ...]) -> dict:
    mix = _parts(found)
    recall = lambda share, weight: recall_of(
      weight * _in_order(_joined(mix, name, share), names)
    )
    return {
      str(float(share)): {
        str(float(weight)): recall(share, weight)
        for weight in config.evaluation.rescore
      }
      for share in shares
    }

  found[EMBEDDING] = tried(EMBEDDING, (1.0,))
  waiting = [name for name in names if name not in (EMBEDDING, EASE)]
  while waiting:
    of_name = {n: tried(n, config.evaluation.content.shares) for n in waiting}
    best = max(waiting, key=lambda name: _recall(of_name[name]))
    share, _ = _best(of_name[best])
    # Nothing more joins what would stay as it is.
    for name in [best] if share else [*waiting]:
      found[name] = of_name[name]
      waiting.remove(name)
  if EASE in names:
    found[EASE] = tried(EASE, config.evaluation.ease.shares)
  return found


def _validation(
  config: Config, data: Dataset, model: Generator, search: Search
) -> Callable[[np.ndarray], float]:
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

  @functools.cache  # A share of 0 is the mix of before.
  def recall(*weights: float) -> float:
    lists_NxK, _ = rescore(
      items_NxK, score_NxK, others_NxJxK, np.array(weights, np.float32)
    )
    scores = score_lists(np.asarray(lists_NxK), users, data, "valid", [10])
    return float(scores["recall@10"].mean())

  return lambda weight_J: recall(*weight_J.tolist())


def _show(found: Found) -> None:
  weight_of = {
    name: weight for name, weight in weights(found).items() if weight
  }
  total = sum(weight_of.values())
  parts = ", ".join(
    f"{name} {weight / total:.0%}" for name, weight in weight_of.items()
  )
  best = ", ".join(f"{name} {_recall(found[name]):.4f}" for name in weight_of)
  print(
    f"re-scoring beams at weight {total:g}: {parts or 'nothing helps'}"
    f" (validation Recall@10 as each joins: {best or '-'})"
  )
