"""Stage 4's end: the beams in the order that more than one model gives them.

A beam's score is the generator's. It is mixed with h_u . h_i, with how alike an
item is in each modality to what the user has (models/content.py) and with the
score of EASE (models/item_item.py): they see different things in the same
history. Their weights are those that make what users chose in validation most
likely.
"""

import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmgrec_jax.config import Config
from mmgrec_jax.data.dataset import SPLITS, Dataset
from mmgrec_jax.decoding.rescore import fit_weights, standard_scores
from mmgrec_jax.errors import UserError
from mmgrec_jax.evaluation.evaluate import countable_users
from mmgrec_jax.evaluation.metrics import hits
from mmgrec_jax.evaluation.ranking import (
  Ranker,
  Recommend,
  users_to_rank_for,
)
from mmgrec_jax.files import AGAIN, check_json, is_made, read_json
from mmgrec_jax.models.content import Content
from mmgrec_jax.models.generator import Generator
from mmgrec_jax.models.item_item import ease_gib
from mmgrec_jax.stages.content import make_content, read_content
from mmgrec_jax.stages.item_item import make_matrix, read_matrix
from mmgrec_jax.stages.rankers import (
  Search,
  all_scores,
  beam_ranker,
  beams_of,
  history_ranker,
  nearest,
  rescored,
  users_at_a_time,
)
from mmgrec_jax.training import parallel
from mmgrec_jax.workdir import Workdir

# System -> score -> its weight: what rescore.json holds.
Found = Mapping[str, Mapping[str, float]]

BEAMS = "beams"  # the generator's own score
EMBEDDING = "embedding"  # h_u . h_i
EASE = "ease"
# Whose choices on validation weights are learned from, at most: with more they
# would hardly change.
USERS = 20_000


def rescored_beams(
  config: Config,
  data: Dataset,
  folder: Workdir,
  model: Generator,
  search: Search,
) -> dict[str, tuple[Ranker, Search]]:
  """`generator`, the beams as they are, and `mmgrec`, the best mix.

  With EASE in the mix there is `without_ease` between them. The weights are
  kept in rescore.json.
  """
  ease_IxI = make_ease(config, data, folder)
  started = time.monotonic()
  search, names = with_scores(config, data, folder, search, ease_IxI)
  if is_made(folder.path / "rescore.json"):
    found = read_found(folder.path)
  else:
    with parallel.enough_memory("re-scoring", parallel.FEWER_USERS):
      beams = beams_of(config, model, config.evaluation.beam_width)
      found = fit(config, data, beams, search, names)
    folder.write_json("rescore.json", found)
    folder.note_seconds("rescore", time.monotonic() - started)
  print(f"re-scoring: {shares(found['mmgrec'])}")
  # One program for all of them: only the weights differ.
  ranker = beam_ranker(config, data, model, config.evaluation.beam_width)
  return {
    system: (ranker, search._replace(weight_J=in_order(mix, names)))
    for system, mix in {"generator": {BEAMS: 1.0}, **found}.items()
  }


def with_scores(
  config: Config,
  data: Dataset,
  folder: Workdir,
  search: Search,
  ease_IxI: jax.Array | None,
) -> tuple[Search, list[str]]:
  """A search that can score all that is wanted, and the scores' names.

  Args:
    ease_IxI: of `make_ease`.
  """
  content = make_content(config, data, folder)
  search = search._replace(content=tuple(content.values()), ease_IxI=ease_IxI)
  return search, _names(content, ease_IxI is not None)


def nearest_rescored(
  config: Config, data: Dataset, search: Search, names: list[str]
) -> tuple[dict[str, float], Ranker, Search]:
  """The items with the largest h_u . h_i in the place of beams, as many.

  Args:
    names: of all that `search` can score.

  Returns:
    weights learned on validation, that of h_u . h_i as `vectors`; a ranker that
    orders the items by them; and its parameters.
  """
  config = config.copy_and_resolve_references()
  chosen = config.evaluation
  # In the place of the beams' score is h_u . h_i: it needs no second part.
  chosen.rescore.scores = tuple(
    score for score in chosen.rescore.scores if score != EMBEDDING
  )
  candidates = nearest(chosen.beam_width)
  mix = fit(config, data, candidates, search, names)["mmgrec"]
  # They are of all items, and so of fewer users at a time.
  users = min(
    users_at_a_time(config, chosen.beam_width),
    users_to_rank_for(chosen.batch_size, data.n_items),
  )
  ranker = history_ranker(config, data, rescored(candidates), users)
  search = search._replace(weight_J=in_order(mix, names))
  return {"vectors": mix.pop(BEAMS), **mix}, ranker, search


def shares(mix: Mapping[str, float]) -> str:
  """Of each score in the weights, for a person to read."""
  total = sum(map(abs, mix.values())) or 1.0
  return ", ".join(f"{name} {w / total:.0%}" for name, w in mix.items())


def read_found(folder: Path) -> Found:
  """What rescore.json holds.

  Raises:
    UserError: it is missing, damaged, or of an earlier version.
  """
  path = folder / "rescore.json"
  found = read_json(path, AGAIN)
  if "mmgrec" not in found:
    raise UserError(
      f"{path} is of an earlier version, which mixed otherwise. Give the run's"
      " command again, with another --workdir."
    )
  check_json(path, found, AGAIN, {str: {str: float}})
  return found


def read_mix(
  folder: Path, search: Search, found: Found, n_items: int
) -> Search:
  """A search with the mix of a run in a folder.

  Raises:
    UserError: a file with a part in it is missing or damaged.
  """
  mix = found["mmgrec"]
  content: dict[str, Content] = {}
  if alike := _alike(mix):
    there = read_content(folder / "content.npz", n_items)
    for name in alike:
      if name not in there:
        raise UserError(
          f"{folder / 'content.npz'}: has no {name!r}, which has a part in"
          f" rescore.json; {AGAIN}."
        )
      content[name] = there[name]
  ease_IxI = None
  if EASE in mix:
    matrix = read_matrix(folder / "item_item.npz", "ease", n_items)
    ease_IxI = _known(matrix["weight_IxI"])
  return search._replace(
    content=tuple(content.values()),
    ease_IxI=ease_IxI,
    weight_J=in_order(mix, names_of(mix)),
  )


def _alike(mix: Mapping[str, float]) -> list[str]:
  """Scores of features that are in a mix."""
  return [name for name in mix if name not in (BEAMS, EMBEDDING, EASE)]


def names_of(mix: Mapping[str, float]) -> list[str]:
  """Of all that a search with this mix can score, for `in_order`."""
  return _names(_alike(mix), EASE in mix)


def _names(content: Iterable[str], ease: bool) -> list[str]:
  """Of `all_scores`."""
  return [BEAMS, EMBEDDING, *content] + [EASE] * ease


def in_order(mix: Mapping[str, float], names: list[str]) -> np.ndarray:
  """Weights of the names, float32 [J]; 0 of what is not in the mix."""
  return np.array([mix.get(name, 0.0) for name in names], np.float32)


def make_ease(
  config: Config, data: Dataset, folder: Workdir
) -> jax.Array | None:
  """The matrix, made or read; None: it is not wanted, or too large."""
  settings, need = config.evaluation.rescore.ease, ease_gib(data.n_items)
  if EASE not in config.evaluation.rescore.scores:
    return None
  if need > settings.max_gib:
    print(
      f"re-scoring goes without EASE: {data.n_items:,} items would take"
      f" {need:,.1f} GiB, more than config.evaluation.rescore.ease.max_gib,"
      f" {settings.max_gib}"
    )
    return None
  return _known(make_matrix("ease", settings, data, folder)["weight_IxI"])


def _known(weight_IxI: np.ndarray) -> jax.Array:
  """EASE's matrix, with NaN for what it says of an item without users."""
  weight_IxI[:, ~weight_IxI.any(axis=0)] = np.nan
  return jnp.asarray(weight_IxI)


def fit(
  config: Config,
  data: Dataset,
  candidates: Recommend,
  search: Search,
  names: list[str],
) -> dict[str, dict[str, float]]:
  """Weights learned on validation, by system, with EASE and without.

  Args:
    candidates: what is to be re-scored, `evaluation.beam_width` items.
    names: of all that `search` can score; `evaluation.rescore` says whether
      h_u . h_i has a part.
  """
  items_NxK, z_NxJxK, hit_NxK = _on_validation(config, data, candidates, search)
  real_NxK = items_NxK >= 0

  def weights(chosen: list[str]) -> dict[str, float]:
    place = [names.index(name) for name in chosen]
    found_J = fit_weights(z_NxJxK[:, place], hit_NxK, real_NxK)
    return dict(zip(chosen, found_J.round(4).tolist(), strict=True))

  wanted = config.evaluation.rescore.scores
  chosen = [n for n in names if n != EMBEDDING or EMBEDDING in wanted]
  found = {"mmgrec": weights(chosen)}
  if EASE in chosen:
    without = [name for name in chosen if name != EASE]
    found = {"without_ease": weights(without), **found}
  return found


def _on_validation(
  config: Config, data: Dataset, candidates: Recommend, search: Search
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Items [N, K], their standard scores [N, J, K], and hits, bool [N, K]."""

  def scored(search, user_B, history_BxH, seen_BxS) -> tuple[Any, ...]:
    items_BxK, score_BxK = candidates(search, user_B, history_BxH, seen_BxS)
    scores_BxJxK = all_scores(search, user_B, history_BxH, items_BxK, score_BxK)
    return items_BxK, standard_scores(items_BxK, scores_BxJxK)

  at_a_time = users_at_a_time(config, config.evaluation.beam_width)
  ranker = history_ranker(config, data, scored, at_a_time)
  users = countable_users(data, "valid")
  users = users[:: max(1, math.ceil(len(users) / USERS))]
  items_NxK, z_NxJxK = ranker(parallel.replicate(search), users)
  truth = data.rows(SPLITS["valid"])
  return items_NxK, z_NxJxK, hits(items_NxK, users, truth, data.n_items)
