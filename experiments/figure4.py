"""Figure 4: what layers and heads of the Transformer do, MMGRec and LightGT.

Command: python -m experiments.figure4 --datasets=lfm2k=DIR,ml100k=DIR \\
           --seeds=3 --out=runs/tables

1 to 4 layers (of encoder and decoder alike; LightGT's are those of its graph
convolution, too) and 1, 2, 4 and 8 heads, each with all else as the config has
it. Data sets and runs are as those of tables.py: a point where nothing is
changed is the run of that system in the tables with the same --out. Settings
are given as for main, --config.KEY=VALUE.

OUT gets figure4.json, figure4.md and figure4-<data set>.png; `generator` is
mmgrec's beams before they are re-scored. The paper prints no numbers to this
figure. Exit codes: 0 done, 1 some run failed, 2 wrong input or settings, 130
stopped.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments import compare_report, planning, runs, tables
from experiments.benchmarks import report
from mmgrec_jax import config as configs

METRIC = "recall@10"  # the paper's
VALUES = {"layers": (1, 2, 3, 4), "heads": (1, 2, 4, 8)}
# By system, the settings that a panel varies together.
SETTINGS = {
  "lightgt": {"layers": ["model.layers"], "heads": ["model.heads"]},
  "mmgrec": {
    "layers": ["generator.encoder_layers", "generator.decoder_layers"],
    "heads": ["generator.heads"],
  },
}
# By system, what its runs score; without re-scoring there is no `generator`.
LINES = {"lightgt": ["lightgt"], "mmgrec": ["generator", "mmgrec"]}


class Point(NamedTuple):
  """One system at one value of one panel."""

  system: str
  panel: str
  value: int
  own: dict[str, str]  # the settings that it changes

  @property
  def row(self) -> str:
    """Its name; several points may be the system as it is."""
    changed = f"-{self.panel}-{self.value}" if self.own else ""
    return f"{self.system}{changed}"


def parser() -> argparse.ArgumentParser:
  out = runs.new_parser("figure4", __doc__)
  tables.add_data_sets(out)
  out.add_argument(
    "--models", default="all", help="all (the default), lightgt or mmgrec"
  )
  return out


def points_of(file: str, systems: Sequence[str]) -> list[Point]:
  """All points of a data set's config file."""
  points = []
  for system in systems:
    config = planning.read_config([f"--config={file}{planning.colon(system)}"])
    default = dict(configs.flatten(config))
    for panel, keys in SETTINGS[system].items():
      for value in VALUES[panel]:
        own = {key: str(value) for key in keys if default[key] != value}
        points.append(Point(system, panel, value, own))
  return points


def summarise(
  points: Sequence[Point], planned: Sequence[runs.Run]
) -> dict[str, Any]:
  """Test scores: panel -> line -> value -> mean, sd and values over seeds;
  the runs that are not finished."""
  by_row: dict[str, list[dict[str, Any]]] = {}
  for run, results in compare_report.read_results(planned, ["test"]):
    by_row.setdefault(run.row, []).append(results)
  panels: dict[str, Any] = {panel: {} for panel in VALUES}
  for point in points:
    of_seeds = [found["test"] for found in by_row.get(point.row, [])]
    for line in LINES[point.system]:
      scores = [test[line][METRIC] for test in of_seeds if line in test]
      if scores:
        of_line = panels[point.panel].setdefault(line, {})
        # A string, as JSON makes of it.
        of_line[str(point.value)] = compare_report.over_seeds(scores)
  dataset = next(iter(by_row.values()))[0]["dataset"]
  return {
    "dataset": dataset,
    "metric": METRIC,
    "panels": panels,
    "not_finished": runs.unfinished(planned),
  }


def to_markdown(summary: Mapping[str, Any]) -> str:
  """A table for each panel: a row a system, a column a value."""
  facts, text = summary["dataset"], []
  for panel, lines in summary["panels"].items():
    table = [[f"{facts['name']}, {panel}", *map(str, VALUES[panel])]]
    for line, of_line in lines.items():
      cells = [
        compare_report.mean_and_sd(of_line[value], ".4f")
        if value in of_line
        else "not run"
        for value in map(str, VALUES[panel])
      ]
      table.append([line, *cells])
    text += [*compare_report.lines_of(table), ""]
  return "\n".join([*text, *compare_report.not_finished(summary)])


def plot(summary: Mapping[str, Any], path: Path) -> None:
  """A panel for layers, one for heads; whiskers are one sd over seeds."""
  import matplotlib.pyplot as plt

  figure, axes_P = plt.subplots(1, len(VALUES), figsize=(9, 3.4), sharey=True)
  for axes, (panel, lines) in zip(
    axes_P, summary["panels"].items(), strict=True
  ):
    for line, of_line in lines.items():
      places = [VALUES[panel].index(int(value)) for value in of_line]
      means = [score["mean"] for score in of_line.values()]
      spread: Any = [score["sd"] for score in of_line.values()]
      if None in spread:  # one seed has none
        spread = None
      axes.errorbar(places, means, spread, marker="o", capsize=3, label=line)
    axes.set_xticks(range(len(VALUES[panel])), map(str, VALUES[panel]))
    axes.set_xlabel(panel)
  axes_P[0].set_ylabel(f"test Recall@10, {summary['dataset']['name']}")
  axes_P[0].legend()
  figure.savefig(path, dpi=150, bbox_inches="tight")
  plt.close(figure)


def write_all(
  points: Mapping[str, Sequence[Point]], planned: Sequence[runs.Run], out: Path
) -> None:
  """figure4.json, figure4.md (printed too), figure4-<data set>.png.

  Args:
    points: by data set.
  """
  by_set: dict[str, list[runs.Run]] = {}
  for run in planned:
    by_set.setdefault(run.folder.parent.name, []).append(run)
  summaries = {
    name: summarise(points[name], of_set)
    for name, of_set in by_set.items()
    if any(run.finished for run in of_set)
  }
  heading = "Test Recall@10, mean ± standard deviation over seeds\n"
  texts = [heading, *map(to_markdown, summaries.values())]
  runs.write(out, "figure4", summaries, "\n".join(texts))
  for name, summary in summaries.items():
    report.draw(plot, summary, out / f"figure4-{name}.png")


def main(argv: Sequence[str]) -> None:
  given, settings = runs.parse(parser(), argv)
  points: dict[str, list[Point]] = {}

  def plan() -> list[runs.Run]:
    systems = runs.chosen_rows(given.models, list(SETTINGS))
    varied = {k for s in systems for keys in SETTINGS[s].values() for k in keys}
    tables.check_not_varied(settings, varied, "figure")
    seeds = tables.seeds_of(given.seeds)
    planned = []
    for one in tables.data_sets(given, settings):
      points[one.name] = points_of(one.file, systems)
      variants = {
        p.row: runs.Variant(p.system, p.own) for p in points[one.name]
      }
      planned += planning.plan_runs(
        one.file, one.settings, variants, seeds, one.out
      )
    return planned

  runs.carry_out(
    plan, lambda planned: write_all(points, planned, given.out), given.out
  )


if __name__ == "__main__":
  runs.as_command(main)
