"""What a person sees in the terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmgrec_jax.data.dataset import SPLITS, TRAIN, Dataset

if TYPE_CHECKING:  # prepare, which shows a table too, needs no JAX
  from mmgrec_jax.training.rehearsal import Rehearsal

SPLIT_NAMES = {"valid": "validation", "test": "test"}


def metrics_table(
  results: Mapping[str, Mapping[str, float]], cutoffs: Sequence[int]
) -> str:
  """One row a system, Recall then NDCG."""
  names = [f"{m}@{k}" for m in ("recall", "ndcg") for k in cutoffs]
  heads = [n.replace("recall", "Recall").replace("ndcg", "NDCG") for n in names]
  width = max(len(system) for system in results)
  lines = ["  ".join([" " * width, *(f"{head:>9}" for head in heads)])]
  for system, values in results.items():
    cells = [f"{values[name]:9.4f}" for name in names]
    lines.append("  ".join([f"{system:<{width}}", *cells]))
  return "\n".join(lines)


def data_summary(data: Dataset) -> str:
  """The data set in one line."""
  facts = data.statistics()
  modalities = ", ".join(f"{m} {d}" for m, d in facts["modalities"].items())
  return (
    f"{facts['name']}: {facts['users']:,} users, {facts['items']:,} items,"
    f" {facts['interactions']:,} interactions (train {facts['train']:,},"
    f" validation {facts['valid']:,}, test {facts['test']:,}); features"
    f" {modalities or 'none'}"
  )


def statistics_table(facts: Mapping) -> str:
  """`Dataset.statistics` as the columns of the paper's Table 1."""
  cells = {
    "": facts["name"],
    "users": f"{facts['users']:,}",
    "items": f"{facts['items']:,}",
    "interactions": f"{facts['interactions']:,}",
    "density": f"{facts['density']:.4%}",
    **{m: str(width) for m, width in facts["modalities"].items()},
  }
  width = {head: max(len(head), len(cell)) for head, cell in cells.items()}
  row = lambda texts: "  ".join(
    f"{text:>{w}}" for text, w in zip(texts, width.values(), strict=True)
  )
  return f"{row(cells)}\n{row(cells.values())}"


def rehearsal_line(one: "Rehearsal") -> str:
  """A stage of a dry run in one line."""
  line = (
    f"{one.stage}: {one.memory / 2**20:,.0f} MiB of each device, compiled in"
    f" {one.compiling:.1f} s, {one.steps:,} steps of {1000 * one.step:.1f} ms"
  )
  if one.validations:
    line += f", {one.validations} validations of {one.validation:.1f} s"
  return f"{line}: at most {_duration(one.seconds)}"


def rehearsal_total(stages: "Sequence[Rehearsal]") -> str:
  """The last line of a dry run."""
  if not stages:
    return "Nothing is trained step by step; the run itself is the test."
  most = max(one.memory for one in stages)
  total = _duration(sum(one.seconds for one in stages))
  return (
    f"Training takes at most {total}, less where it stops early; beside it come"
    " what is made between its stages and the final evaluation."
    f" {most / 2**20:,.0f} MiB of each device. Nothing was written."
  )


def _duration(seconds: float) -> str:
  minutes, hours = round(seconds / 60), seconds / 3600
  if seconds < 90:
    return f"{seconds:.0f} s"
  return f"{minutes} minutes" if minutes < 90 else f"{hours:.1f} hours"


def examples(
  data: Dataset,
  users: np.ndarray,
  items_NxK: np.ndarray,
  split: str,
  n_history: int = 6,
  n_items: int = 6,
) -> str:
  """Some users: what they liked, what they are recommended, which are hits."""
  train, truth = data.rows(TRAIN), data.rows(SPLITS[split])
  lines = []
  for user, items in zip(users, items_NxK, strict=True):
    seen = train.of(user)
    liked = truth.of(user)
    lines.append(
      f"user {data.user_ids[user]} ({len(seen)} items in training), such as"
    )
    lines += [
      f"    {data.names[i]}" for i in seen[:: -(-len(seen) // n_history)]
    ]
    lines.append(
      f"  is recommended (* = in the user's {SPLIT_NAMES[split]} items)"
    )
    lines += [
      f"  {'*' if i in liked else ' '} {data.names[i]}"
      for i in items[:n_items]
      if i >= 0
    ]
  return "\n".join(lines)
