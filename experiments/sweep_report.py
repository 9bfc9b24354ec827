"""What experiments/sweep.py leaves: numbers, a table, a plot."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.compare_report import lines_of, read_results, training_seconds
from experiments.runs import Run

METRIC = "recall@10"  # on validation, what settings are chosen by
SPLITS = "evaluation.splits"  # what keeps every trial from the test split


def summarise(runs: Sequence[Run]) -> dict[str, Any]:
  """Trials by system, the best first; one that failed has no `valid`.

  Raises:
    UserError: the runs are not of one data set.
  """
  found = read_results(runs, ["valid", "seconds"])
  results = {run.row: of_run for run, of_run in found}
  of_system: dict[str, list[dict[str, Any]]] = {}
  for run in runs:
    trial = _numbers(run, results.get(run.row))
    of_system.setdefault(run.system, []).append(trial)
  return {
    "dataset": next(iter(results.values()))["dataset"],
    "metric": METRIC,
    "systems": {
      system: sorted(trials, key=_score, reverse=True)
      for system, trials in of_system.items()
    },
  }


def _numbers(run: Run, results: Mapping[str, Any] | None) -> dict[str, Any]:
  found = {
    "settings": {k: v for k, v in run.own.items() if k != SPLITS},
    "folder": run.folder.name,
    "command": command(run),
  }
  if results:
    found["valid"] = results["valid"][run.system]
    found["training_seconds"] = training_seconds(run.system, results["seconds"])
  return found


def command(run: Run) -> str:
  """Trains and tests with a trial's settings, in a workdir of its own."""
  splits = f"--config.{SPLITS}="
  flags = [a for a in run.arguments if not a.startswith(splits)]
  flags.append(f"--workdir=runs/{run.folder.name}")
  return shlex.join(["python", "-m", "mmgrec_jax.main", *flags])


def _score(trial: Mapping[str, Any]) -> float:
  return trial["valid"][METRIC] if "valid" in trial else -1.0


def to_markdown(summary: Mapping[str, Any]) -> str:
  """A table for each system, and its best trial's command."""
  facts = summary["dataset"]
  lines = [
    f"{facts['name']}: validation, mean over"
    f" {facts['valid_users_counted']:,} users; the test split was not read",
    "",
  ]
  if "mmgrec" in summary["systems"]:
    lines += [
      "mmgrec's weights of the re-scoring are learned from what is scored here,"
      " too: its numbers are a little high beside the others'.",
      "",
    ]
  for system, trials in summary["systems"].items():
    finished = [trial for trial in trials if "valid" in trial]
    lines += [
      f"{system}: {len(finished)} of {len(trials)} trials finished",
      "",
      *lines_of(_rows(trials)),
      "",
    ]
    if finished:
      lines += ["Best:", "", f"    {finished[0]['command']}", ""]
  return "\n".join(lines)


def _rows(trials: Sequence[Mapping[str, Any]]) -> list[list[str]]:
  keys = list(trials[0]["settings"])
  rows = [["Recall@10", "NDCG@10", *keys, "training s", "folder"]]
  for trial in trials:
    scores, seconds = ["failed", "failed"], "-"
    if "valid" in trial:
      scores = [f"{trial['valid'][m]:.4f}" for m in (METRIC, "ndcg@10")]
      seconds = f"{trial['training_seconds']:.0f}"
    settings = [trial["settings"][key] for key in keys]
    rows.append([*scores, *settings, seconds, trial["folder"]])
  return rows


def plot(summary: Mapping[str, Any], path: Path) -> None:
  """A row for each system: the score against each setting."""
  import matplotlib.pyplot as plt

  systems = summary["systems"]
  widest = max(len(trials[0]["settings"]) for trials in systems.values())
  figure, axes_SxK = plt.subplots(
    len(systems),
    widest,
    figsize=(3.2 * widest, 2.6 * len(systems)),
    squeeze=False,
  )
  for (system, trials), axes_K in zip(systems.items(), axes_SxK, strict=True):
    finished = [trial for trial in trials if "valid" in trial]
    for axes in axes_K[len(trials[0]["settings"]) :]:
      axes.set_visible(False)
    axes_K[0].set_ylabel(f"{system}\nvalidation Recall@10")
    for axes, key in zip(axes_K, trials[0]["settings"], strict=False):
      _scatter(axes, key, finished)
  figure.tight_layout()
  figure.savefig(path, dpi=150)
  plt.close(figure)


def _scatter(axes, key: str, trials: Sequence[Mapping[str, Any]]) -> None:
  """One point a trial; a log scale if the numbers span a factor of 30."""
  axes.set_xlabel(key)
  values = [trial["settings"][key] for trial in trials]
  try:
    numbers = [float(value) for value in values]
  except ValueError:
    axes.plot(values, [_score(t) for t in trials], "o")
    return
  axes.plot(numbers, [_score(t) for t in trials], "o")
  if numbers and min(numbers) > 0 and max(numbers) >= 30 * min(numbers):
    axes.set_xscale("log")
