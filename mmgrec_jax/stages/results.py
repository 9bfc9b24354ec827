"""Stage 5: every system on the same users, written and shown."""

import functools
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from mmgrec_jax.arrays import Form, check_arrays, read_arrays, write_arrays
from mmgrec_jax.config import Config
from mmgrec_jax.data.dataset import SPLITS, VALID, Dataset, Rows
from mmgrec_jax.evaluation.evaluate import (
  chance,
  countable_users,
  score_lists,
)
from mmgrec_jax.evaluation.ranking import Ranker
from mmgrec_jax.files import AGAIN, read_json
from mmgrec_jax.report import tables
from mmgrec_jax.training import parallel
from mmgrec_jax.workdir import Workdir

# What results.json says of the data set, as of `files.misfit`.
FACTS = {
  "name": str, "modalities": {str: int}, "density": float,
  **dict.fromkeys(
    ("users", "items", "interactions", *SPLITS, "longest_history",
     "users_without_train", "items_without_train"), int
  ),
}  # fmt: skip


def popularity_vectors(data: Dataset):
  """The most popular items for everyone, as an inner product of width 1."""
  count_Ix1 = jnp.asarray(data.popularity()[:, None], jnp.float32)
  return jnp.ones((data.n_users, 1)), count_Ix1


def report_results(
  config: Config, data: Dataset, folder: Workdir, systems: dict
) -> dict:
  """Scores systems on `evaluation.splits`; prints, saves, returns.

  Args:
    systems: name -> (ranker, its parameters); the last one's lists are shown,
      for the last split.

  Returns:
    what results.json holds. Per-user values go to per_user.npz.
  """
  cutoffs = config.evaluation.cutoffs
  started = time.monotonic()
  splits = config.evaluation.splits
  results = {"dataset": data.statistics(), **{split: {} for split in splits}}
  per_user, lists, rankers = {}, {}, {}
  params_of = parallel.replicate_once({n: p for n, (_, p) in systems.items()})
  for split in splits:
    users = countable_users(data, split)
    results["dataset"][f"{split}_users_counted"] = len(users)
    per_user[f"{split}/users"] = users
    # Systems may share a ranker, and its compiled programs.
    of_split = functools.cache(
      functools.partial(ranker_of, config, data, split)
    )
    for name, (ranker, _) in systems.items():
      rankers[name] = of_split(ranker)
      lists[name], _ = rankers[name](params_of[name], users)
      scores = score_lists(lists[name], users, data, split, cutoffs)
      results[split][name] = {k: float(v.mean()) for k, v in scores.items()}
      per_user[f"{split}/{name}/items"] = lists[name]
      for metric, values in scores.items():
        per_user[f"{split}/{name}/{metric}"] = values
  users = per_user[f"{splits[-1]}/users"]
  write_arrays(folder.path / "per_user.npz", per_user)
  folder.note_seconds("evaluate", time.monotonic() - started)
  results["seconds"] = folder.seconds()
  # Systems that share a ranker do the same work: it is the last one's.
  last_of = {ranker: name for name, ranker in rankers.items()}
  results["seconds_per_1000_users"] = {
    name: _seconds_per_1000(ranker, params_of[name], users)
    for ranker, name in last_of.items()
  }
  folder.write_json("results.json", results)
  _show(config, data, results, users, lists[list(systems)[-1]])
  return results


def hidden_rows(config: Config, data: Dataset, split: str) -> Rows | None:
  """By user, what is no candidate in a split beside what they train on."""
  if split == "test" and config.evaluation.exclude_validation:
    return data.rows(VALID)
  return None


def ranker_of(
  config: Config, data: Dataset, split: str, ranker: Ranker
) -> Ranker:
  """The ranker as a split wants it, without `hidden_rows`."""
  hidden = hidden_rows(config, data, split)
  return ranker if hidden is None else ranker.hiding(hidden)


def read_results(config: Config, folder: Path) -> dict[str, Any]:
  """What results.json holds.

  Raises:
    UserError: it is missing or damaged.
  """
  cutoffs = config.evaluation.cutoffs
  names = [f"{metric}@{k}" for k in cutoffs for metric in ("recall", "ndcg")]
  scores = dict.fromkeys(names, float)
  form = {
    "dataset": FACTS,
    "seconds": {str: float},
    "seconds_per_1000_users": {str: float},
  }
  for split in config.evaluation.splits:
    form[split] = {str: scores, "popularity": scores}
  return read_json(folder / "results.json", AGAIN, form)


def read_per_user(
  data: Dataset, folder: Path, split: str, systems: Iterable[str]
) -> dict[str, np.ndarray]:
  """What per_user.npz holds of a split, without its name.

  Args:
    systems: those that it must have lists of.

  Returns:
    users [N], and of each system its lists `<system>/items` [N, K], -1 = ended
    early, and its metrics [N].

  Raises:
    UserError: it is missing or damaged, or is of other data.
  """
  path = folder / "per_user.npz"
  arrays = read_arrays(path, AGAIN)
  arrays = {
    name.removeprefix(f"{split}/"): array
    for name, array in arrays.items()
    if name.startswith(f"{split}/")
  }
  sizes = {"U": data.n_users, "I": data.n_items}
  forms = {"users": Form(int, "N", below="U")}
  check_arrays(path, arrays, AGAIN, forms, **sizes)
  sizes["N"] = len(arrays["users"])
  lists = Form(int, "NxK", below="I", least=-1)
  needed = [f"{system}/items" for system in systems]
  for name in dict.fromkeys([*arrays, *needed]).keys() - {"users"}:
    form = lists if name.endswith("/items") else Form(float, "N")
    # One at a time: K may be another's.
    check_arrays(path, arrays, AGAIN, {name: form}, **sizes)
  return arrays


def _seconds_per_1000(ranker: Ranker, params, users: np.ndarray) -> float:
  """To recommend to users it has recommended to before: nothing compiles."""
  started = time.monotonic()
  ranker(params, users)
  return 1000 / len(users) * (time.monotonic() - started)


def _show(config, data: Dataset, results: dict, users, items_NxK) -> None:
  """Three users of the last split, then the table."""
  split = config.evaluation.splits[-1]
  picks = np.linspace(0, len(users) - 1, 5).astype(int)[1:4]
  print("\n" + tables.examples(data, users[picks], items_NxK[picks], split))
  shown = [k for k in config.evaluation.cutoffs if k <= 20]
  hidden = hidden_rows(config, data, split)
  rows = {"chance": chance(data, split, shown, hidden), **results[split]}
  name = tables.SPLIT_NAMES[split].capitalize()
  print(f"\n{name}, mean over {len(users):,} users:")
  print(tables.metrics_table(rows, shown))
