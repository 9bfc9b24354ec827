"""What experiments/sweep.py leaves: numbers, a table, a plot."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments import runs
from experiments.compare_report import training_seconds

METRIC = "recall@10"  # on validation, what settings are chosen by


class Trial(NamedTuple):
  """A run and the settings it tries.

  config: what --config takes.  given: settings of all trials.  chosen: of
  this one.
  """

  run: runs.Run
  config: str
  given: Mapping[str, str]
  chosen: Mapping[str, str]

  @property
  def command(self) -> str:
    """Trains and tests with these settings, in a workdir of its own."""
    flags = runs.arguments_of(self.config, {**self.given, **self.chosen})
    return shlex.join(["python", "-m", "mmgrec_jax.main", *flags])


def summarise(trials: Sequence[Trial]) -> dict[str, Any]:
  """Trials by system, the best first; one that failed has no `valid`.

  Raises:
    UserError: the runs are not of one data set.
  """
  of_system: dict[str, list[Trial]] = {}
  for trial in trials:
    of_system.setdefault(trial.run.system, []).append(trial)
  finished = [t.run.results() for t in trials if t.run.finished]
  return {
    "dataset": runs.same_data(finished),
    "metric": METRIC,
    "systems": {
      system: sorted(map(_numbers, own), key=_score, reverse=True)
      for system, own in of_system.items()
    },
  }


def _numbers(trial: Trial) -> dict[str, Any]:
  system, folder = trial.run.system, trial.run.folder
  found = {
    "settings": dict(trial.chosen),
    "folder": folder.name,
    "command": trial.command,
  }
  if trial.run.finished:
    results = trial.run.results()
    found["valid"] = results["valid"][system]
    found["training_seconds"] = training_seconds(system, results["seconds"])
  return found


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
  for system, trials in summary["systems"].items():
    finished = [trial for trial in trials if "valid" in trial]
    lines += [
      f"{system}: {len(finished)} of {len(trials)} trials finished",
      "",
      runs.markdown_table(_rows(trials)),
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
