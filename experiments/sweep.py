"""Tries settings of one system or several; chooses on validation alone.

Every combination:
  python -m experiments.sweep --config=configs/lfm2k.py:lightgcn \\
    --config.data=DIR --set model.l2=1e-4,1e-3,1e-2 --set model.layers=2,3 \\
    --out=runs/sweep
As many random trials for each system, of what spaces.py says is worth tuning:
  python -m experiments.sweep --config=configs/lfm2k.py --config.data=DIR \\
    --models=lightgcn,lattice,mmgrec --trials=20 --out=runs/sweep

--trials is the budget, the same for every system. --set KEY=VALUES takes a list
or a range (log:1e-5:1e-1, uniform:0:0.5; a range needs --trials). Other
settings are given as for main, --config.KEY=VALUE; each goes to the systems
that have it.

No run reads a test interaction (config.evaluation.splits), so no choice can
depend on one. Each trial is a process and a workdir, OUT/<system>-<digest of
its settings>: the same command goes on where it was, and a larger sweep keeps
the trials of a smaller one. OUT gets sweep.json, sweep.md and sweep.png. Exit
codes: 0 done, 1 some run failed, 2 wrong input or settings, 130 stopped.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments import runs, spaces
from experiments.benchmarks import report
from experiments.sweep_report import Trial, plot, summarise, to_markdown
from mmgrec_jax import config as configs
from mmgrec_jax.errors import UserError

SPLITS = "evaluation.splits"


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
  """The flags, and KEY -> VALUE of every --config.KEY=VALUE."""
  parser = argparse.ArgumentParser(
    prog="python -m experiments.sweep",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument("--config", required=True, help="FILE or FILE:SYSTEM")
  parser.add_argument(
    "--models", help=f"all, or some of {', '.join(runs.SYSTEMS)}"
  )
  parser.add_argument(
    "--set",
    action="append",
    default=[],
    metavar="KEY=VALUES",
    help="may be repeated; without it, the settings of spaces.py",
  )
  parser.add_argument("--trials", type=int, help="random ones, of each system")
  parser.add_argument("--seed", type=int, default=0, help="of the trials")
  parser.add_argument("--out", type=Path, required=True, help="folder")
  given, settings = runs.parse(parser, argv)
  given.set = dict(setting.split("=", 1) for setting in check_set(given.set))
  for key in given.set:
    if key in settings:
      raise UserError(f"{key} stands in --set and in --config.{key}.")
  if SPLITS in {*settings, *given.set}:
    raise UserError(f"config.{SPLITS}: a sweep never looks at the test split.")
  return given, settings


def check_set(given: Sequence[str]) -> Sequence[str]:
  for setting in given:
    if not all(setting.partition("=")):
      raise UserError(f"--set {setting}: give KEY=VALUES, as in model.l2=0,1.")
  return given


def chosen_configs(file: str, models: str | None) -> dict[str, str]:
  """System -> what --config takes for it."""
  if models is None:
    return {runs.read_config([f"--config={file}"]).system: file}
  systems = runs.chosen_systems(models)
  return {system: runs.with_system(file, system) for system in systems}


def plan_trials(
  of_system: Mapping[str, str],
  settings: Mapping[str, str],
  space: Mapping[str, str],
  n_trials: int | None,
  seed: int,
  out: Path,
) -> list[Trial]:
  """All trials, each checked before the first one starts.

  Args:
    of_system: system -> what --config takes for it.
    space: of all systems; empty: each has its own from spaces.py.

  Raises:
    UserError: a system lacks a setting, a bad value, a budget that is missing
      or too large.
  """
  given = runs.by_system(settings, list(of_system))
  folder = lambda config: out / f"{config.system}-{digest(config)}"
  trials = []
  for system, config in of_system.items():
    own = space or spaces.SPACES[system]
    if n_trials is None:
      drawn = spaces.grid(own)
    else:
      drawn = spaces.draw(own, n_trials, seed)
    for chosen in drawn:
      arguments = runs.arguments_of(
        config, {**given[system], **chosen, SPLITS: "valid"}
      )
      run = runs.plan_run(arguments, folder)
      trials.append(Trial(run, config, given[system], chosen))
  return trials


def digest(config: configs.Config) -> str:
  """Equal for equal settings, and (but by accident) only for them."""
  text = configs.to_json(config)
  return hashlib.sha256(text.encode()).hexdigest()[:10]


def write_all(trials: list[Trial], out: Path) -> None:
  """sweep.json, sweep.md (printed too) and sweep.png."""
  summary = summarise(trials)
  text = to_markdown(summary)
  (out / "sweep.json").write_text(json.dumps(summary, indent=1) + "\n")
  (out / "sweep.md").write_text(text, encoding="utf-8")
  print(text)
  print(f"The same is in {out / 'sweep.md'} and {out / 'sweep.json'}")
  report.draw(plot, summary, out / "sweep.png")


@runs.explained()
def main(argv: Sequence[str]) -> None:
  given, settings = parse(argv)
  trials = plan_trials(
    chosen_configs(given.config, given.models),
    settings,
    given.set,
    given.trials,
    given.seed,
    given.out,
  )
  given.out.mkdir(parents=True, exist_ok=True)
  planned = [trial.run for trial in trials]
  failed = runs.execute_all(planned)
  if any(run.finished for run in planned):
    write_all(trials, given.out)
  runs.report_failed(failed, planned)


if __name__ == "__main__":
  runs.start(main)
