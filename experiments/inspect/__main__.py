"""Looks into a finished mmgrec or tiger run.

Command: python -m experiments.inspect --workdir=runs/lfm2k

Who is served: recall by popularity of the item and by length of the history,
coverage and Gini of what is recommended, for every system of the run. How the
generator works, before any re-scoring: are its probabilities what they say,
what does the beam miss, which level's token goes wrong, who are an item's
neighbours by Rec-ID.

The workdir is read; what this writes into it is inspect.json, inspect.md,
inspect_lists.png and inspect_generator.png. The exact ranking scores every item
for every user; --users takes a random part of them.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments import runs
from experiments.benchmarks.report import draw
from experiments.inspect import finished, lists, probabilities
from experiments.inspect import report as reports
from mmgrec_jax.errors import UserError
from mmgrec_jax.recid import neighbours
from mmgrec_jax.serving.trained import open_workdir, reload_generator
from mmgrec_jax.training import parallel


def parse(argv: Sequence[str]) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    prog="python -m experiments.inspect",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument("--workdir", type=Path, required=True)
  parser.add_argument(
    "--data", type=Path, help="where the data is now; default: where it was"
  )
  parser.add_argument(
    "--users",
    type=int,
    default=1000,
    help="whom the generator is examined on, at most; default 1000",
  )
  return parser.parse_args(argv)


def inspect(workdir: Path, n_users: int, data: Path | None = None) -> dict:
  """Everything that inspect.json holds."""
  trained = open_workdir(workdir, data)
  run, generator = finished.read_finished(trained), reload_generator(trained)
  users = run.users
  if len(users) > n_users:
    rng = np.random.default_rng(0)
    users = np.sort(rng.choice(users, n_users, replace=False))
  return {
    "system": run.config.system,
    "split": run.split,
    "dataset": run.results["dataset"],
    **lists.of_systems(run),
    "users_examined": len(users),
    **probabilities.of_generator(run, generator, users),
    "neighbours": neighbours.of_items(run.data, generator.rec_ids),
  }


def main(argv: Sequence[str]) -> None:
  given = parse(argv)
  folder = given.workdir
  try:
    if given.users < 1:
      raise UserError(f"--users={given.users}: how many there are, 1 or more.")
    with parallel.enough_memory("inspect", parallel.ANOTHER_DEVICE):
      summary = inspect(folder, given.users, given.data)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
  runs.write(folder, "inspect", summary, reports.to_markdown(summary))
  print(f"The same is in {folder / 'inspect.md'} and inspect.json")
  draw(reports.plot_lists, summary, folder / "inspect_lists.png")
  draw(reports.plot_generator, summary, folder / "inspect_generator.png")


if __name__ == "__main__":
  main(sys.argv[1:])
