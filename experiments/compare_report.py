"""What runs leave together: numbers, a table, tests, a bar chart."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import comparisons
from experiments.comparisons import PARTS, Rows, Scored, beams_row, head
from experiments.runs import Run, unfinished
from mmgrec_jax.errors import UserError
from mmgrec_jax.files import AGAIN, read_json

CUTOFFS = (10, 20)  # of the table
# Head of a column -> what `summarise` calls it, and its format.
COSTS = {
  "training s": ("training_seconds", ".0f"),
  "s per 1,000 users": ("seconds_per_1000_users", ".3f"),
}
# Part -> stages of the run that it does not need.
LATER = {
  "embedding": ("rqvae", "teacher", "generate", "ease", "rescore"),
  "generator": ("ease", "rescore"),
  "without_ease": ("ease",),
}

# Fields of results.json, as of `files.misfit`.
SPLITS = dict.fromkeys(("valid", "test"), {str: {str: float}})
FIELDS = {
  **SPLITS, "seconds": {str: float}, "seconds_per_1000_users": {str: float}
}  # fmt: skip


def read_results(
  runs: Sequence[Run], fields: Iterable[str]
) -> list[tuple[Run, dict[str, Any]]]:
  """Finished runs, and what results.json of each holds.

  Args:
    fields: keys of `FIELDS` that it must have.

  Raises:
    UserError: the runs are not of one data set, or a file is damaged.
  """
  found, fields = [], list(fields)
  form = {name: FIELDS[name] for name in fields}
  for run in filter(lambda run: run.finished, runs):
    path = run.folder / "results.json"
    results = read_json(path, AGAIN, {"dataset": {"fingerprint": str}, **form})
    for split in SPLITS.keys() & fields:
      systems = set(results[split])
      if not {run.system} <= systems <= {run.system, "popularity", *PARTS}:
        raise UserError(f"{path}: damaged (systems of {split!r}); {AGAIN}.")
    found.append((run, results))
  if len({results["dataset"]["fingerprint"] for _, results in found}) > 1:
    raise UserError(
      "The runs are of different data (see dataset.json in each); give"
      " another --out, or delete the older ones."
    )
  return found


def by_row(runs: Sequence[Run]) -> Rows:
  """Rows of the table in order, each with its part in each seed's run.

  A system as it is brings along what its run scored beside it: popularity, and
  mmgrec its parts. A changed one brings itself and, where it has them, its
  beams before they are re-scored, which hides what they are like.
  """
  between = []
  for row in dict.fromkeys(run.row for run in runs if run.row != "mmgrec"):
    between += [beams_row(row), row]
  order = ("popularity", *between, *PARTS, "mmgrec")
  rows: dict[str, dict[int, Scored]] = {row: {} for row in order}
  for run, results in read_results(runs, FIELDS):
    found = {run.row: run.system}
    if run.row == run.system:
      found |= {name: name for name in results["test"]}
    elif "generator" in results["test"]:
      found[beams_row(run.row)] = "generator"
    for row, system in found.items():
      rows[row].setdefault(run.seed, Scored(run, system, results))
  return {row: found for row, found in rows.items() if found}


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
  """Mean and sample standard deviation (None of one value)."""
  sd = statistics.stdev(values) if len(values) > 1 else None
  return {"mean": statistics.fmean(values), "sd": sd, "values": list(values)}


def training_seconds(system: str, seconds: Mapping[str, float]) -> float:
  """Of what a system needs, from a run's seconds by stage."""
  if system == "popularity":
    return 0.0
  later = {*LATER.get(system, ()), "evaluate"}
  if system != "embedding" and "teacher" in seconds:
    later.discard("ease")  # the beams have learned from it
  return sum(s for stage, s in seconds.items() if stage not in later)


def summarise(runs: Sequence[Run]) -> dict[str, Any]:
  """What is finished, as numbers over seeds for each row, and tests."""
  return {**summary_of(by_row(runs)), "not_finished": unfinished(runs)}


def summary_of(rows: Rows) -> dict[str, Any]:
  """Numbers over seeds for each row, and tests."""
  systems = {}
  for row, of_seed in rows.items():
    parts = [of_seed[seed] for seed in sorted(of_seed)]
    system = parts[0].system
    scores = {
      split: {
        metric: over_seeds([p.results[split][system][metric] for p in parts])
        for metric in parts[0].results[split][system]
      }
      for split in ("valid", "test")
    }
    trained = [training_seconds(system, p.results["seconds"]) for p in parts]
    systems[row] = {
      "seeds": sorted(of_seed),
      **scores,
      "training_seconds": over_seeds(trained),
    }
    costs = [p.results["seconds_per_1000_users"].get(system) for p in parts]
    if None not in costs:  # as of mmgrec's parts that its program ranks
      systems[row]["seconds_per_1000_users"] = over_seeds(costs)
  dataset = next(iter(next(iter(rows.values())).values())).results["dataset"]
  tests = [
    comparisons.compare(rows, systems, ours, other, metric)
    for metric in shown_metrics(systems)
    for ours, other in comparisons.pairs(rows, systems, metric)
  ]
  return {"dataset": dataset, "systems": systems, "tests": tests}


def shown_metrics(systems: Mapping[str, Any]) -> list[str]:
  known = next(iter(systems.values()))["test"]
  metrics = [f"{name}@{k}" for k in CUTOFFS for name in ("recall", "ndcg")]
  return [metric for metric in metrics if metric in known]


def to_markdown(
  summary: Mapping[str, Any],
  columns: Mapping[str, Mapping[str, str]] | None = None,
  costs: bool = True,
) -> str:
  """One row a system: test metrics as mean ± sd, what it costs; the tests.

  Args:
    columns: further ones, head -> row -> text.
    costs: False leaves out seconds, which are of one machine and its load.
  """
  columns = columns or {}
  metrics = shown_metrics(summary["systems"])
  seconds = COSTS if costs else {}
  table = [["system", *map(head, metrics), *seconds, "seeds", *columns]]
  for row, found in summary["systems"].items():
    table.append(
      [
        row,
        *(
          mean_and_sd(found["test"][metric], ".4f")
          if metric in found["test"]  # the preset `paper` has no cutoff of 20
          else "–"
          for metric in metrics
        ),
        *(
          mean_and_sd(found[name], form) if name in found else "–"
          for name, form in seconds.values()
        ),
        ", ".join(map(str, found["seeds"])),
        *(of_row.get(row, "") for of_row in columns.values()),
      ]
    )
  facts = summary["dataset"]
  title = (
    f"{facts['name']}: {facts['users']:,} users, {facts['items']:,} items;"
    f" test, mean over {facts['test_users_counted']:,} users, ± standard"
    " deviation over seeds"
  )
  lines = [title, "", *lines_of(table), "", *_tests(summary)]
  return "\n".join([*lines, *not_finished(summary)])


def not_finished(summary: Mapping[str, Any]) -> list[str]:
  """Lines that name the runs which a summary is without, if it has any."""
  missing = summary.get("not_finished")
  return [f"Not finished: {', '.join(missing)}.", ""] if missing else []


def _tests(summary: Mapping[str, Any]) -> list[str]:
  """The tests as a table, with what each means."""
  if not summary["tests"]:
    return []
  return [
    "Two-sided p: the seeds against the other's mean; the seeds of both; the"
    " users, each",
    "averaged over seeds. – = not defined (it needs more runs, or spread).",
    "",
    *lines_of(comparisons.table(summary["tests"])),
    "",
  ]


def lines_of(table: Sequence[Sequence[str]]) -> list[str]:
  """A Markdown table, its head first, in columns of even width."""
  widths = [max(map(len, column)) for column in zip(*table, strict=True)]
  line = lambda cells: f"| {' | '.join(cells)} |"
  pad = lambda cells: [
    cell.ljust(width) for cell, width in zip(cells, widths, strict=True)
  ]
  lines = [line(pad(cells)) for cells in table]
  lines.insert(1, line(["-" * width for width in widths]))
  return lines


def mean_and_sd(of: Mapping[str, Any], form: str) -> str:
  """What `over_seeds` found, as text; `form` is of each number."""
  spread = "" if of["sd"] is None else f" ± {of['sd']:{form}}"
  return f"{of['mean']:{form}}{spread}"


def plot(summary: dict[str, Any], path: Path) -> None:
  """Test Recall@10 and NDCG@10: two bars a system, whiskers one sd."""
  import matplotlib.pyplot as plt

  systems = summary["systems"]
  figure, axes = plt.subplots(figsize=(7, 1 + 0.45 * len(systems)))
  for shift, metric in ((-0.2, "recall@10"), (0.2, "ndcg@10")):
    values = [found["test"][metric] for found in systems.values()]
    axes.barh(
      [i + shift for i in range(len(systems))],
      [v["mean"] for v in values],
      xerr=[v["sd"] or 0.0 for v in values],
      height=0.38,
      capsize=2,
      label=head(metric),
    )
  axes.set_yticks(range(len(systems)), list(systems))
  axes.invert_yaxis()
  axes.set_xlabel(f"test, {summary['dataset']['name']}")
  axes.legend()
  figure.savefig(path, dpi=150, bbox_inches="tight")
  plt.close(figure)
