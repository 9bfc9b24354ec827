"""What experiments/compare.py leaves: numbers, a table, a bar chart."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.runs import markdown_table, same_data
from mmgrec_jax import config as configs

# Rows of the table; a run brings its own and some of the others.
ROWS = ("popularity", *configs.SYSTEMS, "embedding", "mmgrec")


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
  """Mean and sample standard deviation (None of one value)."""
  sd = statistics.stdev(values) if len(values) > 1 else None
  return {"mean": statistics.fmean(values), "sd": sd, "values": list(values)}


def training_seconds(row: str, seconds: Mapping[str, float]) -> float:
  """Of what a row's system needs, from a run's seconds by stage."""
  if row == "popularity":
    return 0.0
  if row == "embedding":
    return seconds["embed"]
  return sum(s for stage, s in seconds.items() if stage != "evaluate")


def summarise(results: Iterable[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
  """Runs' seeds and results.json, as numbers over seeds for each row.

  Raises:
    UserError: the runs are not of one data set.
  """
  of_row: dict[str, dict[int, dict]] = {row: {} for row in ROWS}
  results = list(results)
  dataset = same_data(one for _, one in results)
  for seed, one in results:
    for row in one["test"]:
      of_row[row].setdefault(seed, one)
  systems = {}
  for row, by_seed in of_row.items():
    if not by_seed:
      continue
    runs = [by_seed[seed] for seed in sorted(by_seed)]
    systems[row] = {
      "seeds": sorted(by_seed),
      **{
        split: {
          metric: over_seeds([run[split][row][metric] for run in runs])
          for metric in runs[0][split][row]
        }
        for split in ("valid", "test")
      },
      "training_seconds": over_seeds(
        [training_seconds(row, run["seconds"]) for run in runs]
      ),
      "seconds_per_1000_users": over_seeds(
        [run["seconds_per_1000_users"][row] for run in runs]
      ),
    }
  return {"dataset": dataset, "systems": systems}


def to_markdown(summary: Mapping[str, Any]) -> str:
  """One row a system: test metrics as mean ± sd, and what it costs."""
  systems = summary["systems"]
  known = next(iter(systems.values()))["test"]
  metrics = [f"{m}@{k}" for k in (10, 20) for m in ("recall", "ndcg")]
  metrics = [m for m in metrics if m in known]
  heads = [m.replace("recall", "Recall").replace("ndcg", "NDCG")
           for m in metrics]  # fmt: skip
  table = [["system", *heads, "training s", "s per 1,000 users", "seeds"]]
  for row, found in systems.items():
    table.append(
      [
        row,
        *(_text(found["test"][metric], ".4f") for metric in metrics),
        _text(found["training_seconds"], ".0f"),
        _text(found["seconds_per_1000_users"], ".3f"),
        ", ".join(map(str, found["seeds"])),
      ]
    )
  facts = summary["dataset"]
  title = (
    f"{facts['name']}: {facts['users']:,} users, {facts['items']:,} items;"
    f" test, mean over {facts['test_users_counted']:,} users, ± standard"
    " deviation over seeds"
  )
  return "\n".join([title, "", markdown_table(table), ""])


def _text(of: Mapping[str, Any], form: str) -> str:
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
      label=metric.replace("recall", "Recall").replace("ndcg", "NDCG"),
    )
  axes.set_yticks(range(len(systems)), list(systems))
  axes.invert_yaxis()
  axes.set_xlabel(f"test, {summary['dataset']['name']}")
  axes.legend()
  figure.savefig(path, dpi=150, bbox_inches="tight")
  plt.close(figure)
