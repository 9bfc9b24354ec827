"""Tries settings of one system or several; chooses on validation alone.

Every combination:
  python -m experiments.sweep --config=configs/lfm2k.py --models=lightgcn \\
    --config.data=DIR --set model.l2=1e-4,1e-3,1e-2 --set model.layers=2,3 \\
    --out=runs/sweep
As many random trials for each system, of what spaces.py says is worth tuning:
  python -m experiments.sweep --config=configs/lfm2k.py --config.data=DIR \\
    --models=lightgcn,lattice,mmgrec --trials=20 --out=runs/sweep

--trials is the budget, the same for every system. --set KEY=VALUES takes a list
or a range (log:1e-5:1e-1, uniform:0:0.5; a range needs --trials). Other
settings are given as for main, --config.KEY=VALUE; each goes to the trials that
use it, and where spaces.py has it, it stays as given.

No run reads a test interaction (config.evaluation.splits), so no choice can
depend on one. A trial is a row of experiments.compare, in the workdir
OUT/<system>-<digest of what it tries>-<seed>: the same command goes on where it
was, and a larger sweep keeps the trials of a smaller one. OUT gets sweep.json,
sweep.md and sweep.png. Exit codes: 0 done, 1 some run failed, 2 wrong input or
settings, 130 stopped.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments import planning, runs, spaces
from experiments.benchmarks import report
from experiments.compare import SYSTEMS
from experiments.sweep_report import SPLITS, plot, summarise, to_markdown
from mmgrec_jax.errors import UserError


def parser() -> argparse.ArgumentParser:
  out = runs.new_parser("sweep", __doc__)
  out.add_argument("--config", required=True, help="configs/lfm2k.py, …")
  out.add_argument(
    "--models",
    required=True,
    help=f"all, or some of {', '.join(SYSTEMS)}",
  )
  out.add_argument(
    "--set",
    action="append",
    default=[],
    metavar="KEY=VALUES",
    help="may be repeated; without it, the settings of spaces.py",
  )
  out.add_argument("--trials", type=int, help="random ones, of each system")
  out.add_argument(
    "--seed", type=int, default=0, help="of the trials and of each run"
  )
  return out


def chosen_space(
  given: Sequence[str], settings: Mapping[str, str]
) -> dict[str, str]:
  """KEY -> values, of every --set KEY=VALUES.

  Raises:
    UserError: it is written otherwise, or is not for a sweep to try.
  """
  space = {}
  for setting in given:
    key, _, values = setting.partition("=")
    if not key or not values:
      raise UserError(f"--set {setting}: give KEY=VALUES, as in model.l2=0,1.")
    if key in settings:
      raise UserError(f"{key} stands in --set and in --config.{key}.")
    if key == SPLITS:
      raise UserError(f"--set {key}: a sweep never looks at the test split.")
    if key in space:
      raise UserError(f"--set {key} is there twice: give all VALUES in one.")
    space[key] = values
  return space


def trials_of(
  systems: Sequence[str],
  space: Mapping[str, str],
  settings: Mapping[str, str],
  n_trials: int | None,
  seed: int,
) -> dict[str, runs.Variant]:
  """Each trial as a row, as many of every system.

  Args:
    space: of all systems; empty: each has its own from spaces.py.
    settings: KEY -> VALUE of all trials; what they fix is not tried.

  Raises:
    UserError: a bad range, nothing to try, or a budget that is missing or too
      large.
  """
  rows = {}
  for system in systems:
    whole = space or spaces.SPACES[system]
    own = {key: whole[key] for key in whole if key not in settings}
    if not own:
      raise UserError(
        f"{system}: nothing is left to try, --config fixes {', '.join(whole)}."
      )
    if n_trials is None:
      drawn = spaces.grid(own)
    else:
      drawn = spaces.draw(own, n_trials, seed)
    for tried in drawn:
      row = {**tried, SPLITS: "valid"}
      rows[f"{system}-{digest(tried)}"] = runs.Variant(system, row)
  return rows


def digest(tried: Mapping[str, str]) -> str:
  """Equal for equal settings, and (but by accident) only for them."""
  text = json.dumps(tried, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:10]


def write_all(planned: Sequence[runs.Run], out: Path) -> None:
  """sweep.json, sweep.md (printed too) and sweep.png."""
  summary = summarise(planned)
  runs.write(out, "sweep", summary, to_markdown(summary))
  print(f"The same is in {out / 'sweep.md'} and {out / 'sweep.json'}")
  report.draw(plot, summary, out / "sweep.png")


def main(argv: Sequence[str]) -> None:
  given, settings = runs.parse(parser(), argv)

  def plan() -> list[runs.Run]:
    systems = runs.chosen_rows(given.models, SYSTEMS)
    space = chosen_space(given.set, settings)
    rows = trials_of(systems, space, settings, given.trials, given.seed)
    return planning.plan_runs(
      given.config, settings, rows, [given.seed], given.out
    )

  runs.carry_out(plan, lambda planned: write_all(planned, given.out), given.out)


if __name__ == "__main__":
  runs.as_command(main)
