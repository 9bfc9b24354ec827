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
import contextlib
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags

from experiments.benchmarks import report
from experiments.compare_report import plot, summarise, to_markdown
from mmgrec_jax import config as configs
from mmgrec_jax.errors import UserError
from mmgrec_jax.main import explain

SYSTEMS = (*configs.SYSTEMS, "mmgrec")


class Run(NamedTuple):
  """One training: what it is, where it is, the command that makes it."""

  system: str
  seed: int
  folder: Path
  command: list[str]

  @property
  def finished(self) -> bool:
    return (self.folder / "results.json").is_file()


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
  given, rest = parser.parse_known_args(argv)
  settings = {}
  for argument in rest:
    key, equals, value = argument.partition("=")
    if not key.startswith("--config.") or not equals:
      parser.error(
        f"{argument!r} is none of its flags; settings are given as"
        " --config.KEY=VALUE."
      )
    settings[key.removeprefix("--config.")] = value
  return given, settings


def chosen_systems(models: str) -> list[str]:
  """In the order of the table.

  Raises:
    UserError: there is no such system.
  """
  names = SYSTEMS if models == "all" else models.split(",")
  for name in names:
    if name not in SYSTEMS:
      raise UserError(
        f"--models: nothing is called {name!r}; there are all,"
        f" {', '.join(SYSTEMS)}."
      )
  return [system for system in SYSTEMS if system in names]


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
  if ":" in file:
    raise UserError(f"--config={file}: no colon here; --models picks systems.")
  if "seed" in settings:
    raise UserError("--config.seed: give --seeds=0,1,2 instead.")
  known = {s: dict(configs.flatten(configs.default_config(s))) for s in systems}
  for key in settings:
    if not any(key in keys for keys in known.values()):
      raise UserError(configs.unknown_key(key, systems[-1]))
  runs = []
  for seed in seeds:
    for system in systems:
      colon = "" if system == "mmgrec" else f":{system}"
      arguments = [f"--config={file}{colon}", f"--config.seed={seed}"]
      arguments += [
        f"--config.{key}={value}"
        for key, value in settings.items()
        if key in known[system]
      ]
      folder = out / f"{system}-{seed}"
      command = [sys.executable, "-m", "mmgrec_jax.main", *arguments]
      command.append(f"--workdir={folder}")
      check_folder(folder, read_config(arguments))
      runs.append(Run(system, seed, folder, command))
  return runs


def read_config(arguments: list[str]) -> configs.Config:
  """What main makes of them."""
  argv = ["main", *arguments]
  values = flags.FlagValues()
  holder = config_flags.DEFINE_config_file(
    "config", flag_values=values, sys_argv=argv
  )
  try:
    values(argv)
    config: Any = holder.value
    configs.check(config)
  except UserError:
    raise
  except Exception as error:  # the config library's many kinds
    raise UserError(explain(arguments, error)) from error
  return config


def check_folder(folder: Path, config: configs.Config) -> None:
  """A folder with another run's settings must not enter the table."""
  file = folder / "config.json"
  if not file.is_file():
    return
  there = json.loads(file.read_text(encoding="utf-8"))
  changes = configs.differences(there, json.loads(configs.to_json(config)))
  if changes:
    raise UserError(
      f"{folder} holds a run with other settings: {'; '.join(changes)}. Give"
      " another --out, or delete that folder."
    )


def execute(run: Run) -> int:
  """Runs it to its end; its output passes through. Returns its exit code."""
  child = subprocess.Popen(run.command)
  try:
    return child.wait()
  finally:
    if child.poll() is None:  # we are being stopped: let it save its state
      child.send_signal(signal.SIGTERM)
      child.wait()


def execute_all(runs: list[Run]) -> list[Run]:
  """Those that are not finished. Returns those that failed."""
  failed = []
  for number, run in enumerate(runs, start=1):
    name = f"[{number}/{len(runs)}] {run.system}, seed {run.seed}"
    if run.finished:
      print(f"{name}: finished before", flush=True)
      continue
    print(f"{name}: {shlex.join(run.command)}", flush=True)
    started = time.monotonic()
    code = execute(run)
    took = time.monotonic() - started
    if code == 0 and run.finished:
      print(f"{name}: done in {took:,.0f} s\n", flush=True)
    else:
      failed.append(run)
      print(f"{name}: failed after {took:,.0f} s, exit code {code}\n")
  return failed


def write_all(runs: list[Run], out: Path) -> None:
  """compare.json, compare.md (printed too) and compare.png."""
  results = [
    (run.seed, json.loads((run.folder / "results.json").read_text()))
    for run in runs
    if run.finished
  ]
  summary = summarise(results)
  text = to_markdown(summary)
  (out / "compare.json").write_text(json.dumps(summary, indent=1) + "\n")
  (out / "compare.md").write_text(text, encoding="utf-8")
  print(text)
  print(f"Tables are in {out / 'compare.md'} and {out / 'compare.json'}")
  report.draw(plot, summary, out / "compare.png")


def main(argv: Sequence[str]) -> None:
  given, settings = parse(argv)
  try:
    systems, seeds = chosen_systems(given.models), chosen_seeds(given.seeds)
    runs = plan_runs(given.config, settings, systems, seeds, given.out)
    given.out.mkdir(parents=True, exist_ok=True)
    failed = execute_all(runs)
    if any(run.finished for run in runs):
      write_all(runs, given.out)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
  if failed:
    names = ", ".join(f"{run.system}-{run.seed}" for run in failed)
    print(
      f"\nerror: {len(failed)} of {len(runs)} runs failed ({names}); their"
      " messages are above, and the same command tries them again.",
      file=sys.stderr,
    )
    sys.exit(1)


def _stop(*_) -> None:
  raise KeyboardInterrupt


if __name__ == "__main__":
  signal.signal(signal.SIGTERM, _stop)
  try:
    main(sys.argv[1:])
  except KeyboardInterrupt:
    with contextlib.suppress(BrokenPipeError):
      print("\nstopped; the same command goes on from here.", file=sys.stderr)
    sys.exit(130)
