"""Every system on one data set, over several seeds, in one table.

Command: python -m experiments.compare --config=configs/lfm2k.py \\
           --config.data=DIR --models=all --seeds=0,1,2 --out=runs/compare

Each run is `python -m mmgrec_jax.main` in a process and a workdir of its own,
OUT/<system>-<seed>: a failure ends that run alone. The same command again skips
what is finished and goes on with what was cut off. itemknn and ease, where
nothing is random, run once.

Settings are given as for main, --config.KEY=VALUE; each goes to the systems
that use it. The table has also what runs bring along: `popularity`, and
with mmgrec `embedding`, `generator` (the beams before they are re-scored) and
`without_ease` (re-scored without EASE). Below it, mmgrec (or the best
system) is tested against the best of the others. OUT gets compare.json,
compare.md and compare.png. Exit codes: 0 done, 1 some run failed, 2 wrong input
or settings, 130 stopped.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from experiments import planning, runs
from experiments.benchmarks import report
from experiments.compare_report import plot, summarise, to_markdown
from mmgrec_jax import config as configs
from mmgrec_jax.errors import UserError

SYSTEMS = (*configs.SYSTEMS, "mmgrec")


def parser() -> argparse.ArgumentParser:
  out = runs.new_parser("compare", __doc__)
  out.add_argument("--config", required=True, help="configs/lfm2k.py, …")
  runs.add_models(out, SYSTEMS)
  out.add_argument("--seeds", default="0,1,2", help="default 0,1,2")
  return out


def chosen_seeds(seeds: str) -> list[int]:
  try:
    return sorted({int(seed) for seed in seeds.split(",")})
  except ValueError as error:
    raise UserError(
      f"--seeds={seeds}: give whole numbers, as in --seeds=0,1,2."
    ) from error


def write_all(planned: list[runs.Run], out: Path) -> None:
  """compare.json, compare.md (printed too) and compare.png."""
  summary = summarise(planned)
  runs.write(out, "compare", summary, to_markdown(summary))
  print(f"Tables are in {out / 'compare.md'} and {out / 'compare.json'}")
  report.draw(plot, summary, out / "compare.png")


def main(argv: Sequence[str]) -> None:
  given, settings = runs.parse(parser(), argv)

  def plan() -> list[runs.Run]:
    systems = runs.chosen_rows(given.models, SYSTEMS)
    return planning.plan_runs(
      given.config,
      settings,
      {system: runs.Variant(system) for system in systems},
      chosen_seeds(given.seeds),
      given.out,
    )

  runs.carry_out(plan, lambda planned: write_all(planned, given.out), given.out)


if __name__ == "__main__":
  runs.as_command(main)
