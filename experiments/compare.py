"""Every system on one data set, over several seeds, in one table.

Command: python -m experiments.compare --config=configs/lfm2k.py \\
           --config.data=DIR --models=all --seeds=0,1,2 --out=runs/compare

Each run is `python -m mmgrec_jax.main` in a process and a workdir of its own,
OUT/<system>-<seed>: a failure ends that run alone. The same command again skips
what is finished and goes on with what was cut off.

Settings are given as for main, --config.KEY=VALUE; each goes to the systems
that have it. The table has also what runs bring along: `popularity`, and
`embedding` with mmgrec. OUT gets compare.json, compare.md and compare.png. Exit
codes: 0 done, 1 some run failed, 2 wrong input or settings, 130 stopped.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from experiments import runs
from experiments.benchmarks import report
from experiments.compare_report import plot, summarise, to_markdown
from experiments.runs import SYSTEMS, Run
from mmgrec_jax.errors import UserError


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
  """The flags, and KEY -> VALUE of every --config.KEY=VALUE."""
  parser = argparse.ArgumentParser(
    prog="python -m experiments.compare",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument("--config", required=True, help="configs/lfm2k.py, …")
  parser.add_argument(
    "--models",
    default="all",
    help=f"all (the default), or some of {', '.join(SYSTEMS)}",
  )
  parser.add_argument("--seeds", default="0,1,2", help="default 0,1,2")
  parser.add_argument("--out", type=Path, required=True, help="folder")
  return runs.parse(parser, argv)


def chosen_seeds(seeds: str) -> list[int]:
  try:
    return sorted({int(seed) for seed in seeds.split(",")})
  except ValueError as error:
    raise UserError(
      f"--seeds={seeds}: give whole numbers, as in --seeds=0,1,2."
    ) from error


def plan_runs(
  file: str,
  settings: dict[str, str],
  systems: list[str],
  seeds: list[int],
  out: Path,
) -> list[Run]:
  """All runs, seed by seed, each checked before the first one starts.

  Raises:
    UserError: no such config file or setting, a bad value, or a folder with
      other settings.
  """
  if "seed" in settings:
    raise UserError("--config.seed: give --seeds=0,1,2 instead.")
  if "evaluation.splits" in settings:
    raise UserError("--config.evaluation.splits: the table needs both.")
  of_system = runs.by_system(settings, systems)
  folder = lambda config: out / f"{config.system}-{config.seed}"
  return [
    runs.plan_run(
      runs.arguments_of(
        runs.with_system(file, system),
        {"seed": str(seed), **of_system[system]},
      ),
      folder,
    )
    for seed in seeds
    for system in systems
  ]


def write_all(planned: list[Run], out: Path) -> None:
  """compare.json, compare.md (printed too) and compare.png."""
  summary = summarise(
    [(run.seed, run.results()) for run in planned if run.finished]
  )
  text = to_markdown(summary)
  (out / "compare.json").write_text(json.dumps(summary, indent=1) + "\n")
  (out / "compare.md").write_text(text, encoding="utf-8")
  print(text)
  print(f"Tables are in {out / 'compare.md'} and {out / 'compare.json'}")
  report.draw(plot, summary, out / "compare.png")


@runs.explained()
def main(argv: Sequence[str]) -> None:
  given, settings = parse(argv)
  systems, seeds = runs.chosen_systems(given.models), chosen_seeds(given.seeds)
  planned = plan_runs(given.config, settings, systems, seeds, given.out)
  given.out.mkdir(parents=True, exist_ok=True)
  failed = runs.execute_all(planned)
  if any(run.finished for run in planned):
    write_all(planned, given.out)
  runs.report_failed(failed, planned)


if __name__ == "__main__":
  runs.start(main)
