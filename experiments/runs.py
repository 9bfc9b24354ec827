"""Many runs of mmgrec_jax.main, each in a process and a folder of its own."""

import argparse
import contextlib
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags

from mmgrec_jax import config as configs
from mmgrec_jax.errors import UserError
from mmgrec_jax.files import AGAIN, read_json
from mmgrec_jax.main import explain
from mmgrec_jax.models.settings import ITEM_ITEM


class Variant(NamedTuple):
  """A row of a table: a system, and what it is given beyond the config."""

  system: str
  settings: Mapping[str, str] = {}


class Run(NamedTuple):
  """One training: which row it is of, where it is, what makes it."""

  row: str
  system: str
  seed: int
  folder: Path
  arguments: list[str]  # of main, but the workdir
  own: Mapping[str, str] = {}  # settings of its row, beyond those of all

  @property
  def command(self) -> list[str]:
    main = [sys.executable, "-m", "mmgrec_jax.main"]
    return [*main, *self.arguments, f"--workdir={self.folder}"]

  @property
  def finished(self) -> bool:
    return (self.folder / "results.json").is_file()


def new_parser(command: str, doc: str | None) -> argparse.ArgumentParser:
  """Of `python -m experiments.COMMAND`, with what all of them have."""
  out = argparse.ArgumentParser(
    prog=f"python -m experiments.{command}",
    description=doc,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  out.add_argument("--out", type=Path, required=True, help="folder")
  return out


def parse(
  parser: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[argparse.Namespace, dict[str, str]]:
  """A command's flags, and KEY -> VALUE of every --config.KEY=VALUE."""
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


def chosen_rows(models: str, rows: Sequence[str]) -> list[str]:
  """Those that --models names, in the order of the table.

  Raises:
    UserError: there is no such row.
  """
  names = rows if models == "all" else models.split(",")
  for name in names:
    if name not in rows:
      raise UserError(
        f"--models: nothing is called {name!r}; there are all,"
        f" {', '.join(rows)}."
      )
  return [row for row in rows if row in names]


def plan_runs(
  file: str,
  settings: Mapping[str, str],
  variants: Mapping[str, Variant],
  seeds: Sequence[int],
  out: Path,
) -> list[Run]:
  """All runs, seed by seed, each checked before the first one starts.

  Args:
    file: of the config.
    settings: KEY -> VALUE; each goes to the rows that use it.
    variants: by row of the table.
    seeds: of each, but one run is enough where nothing is random.
    out: runs are in OUT/<row>-<seed>.

  Raises:
    UserError: no such config file or setting, a bad value, or a folder with
      other settings.
  """
  if ":" in file:
    raise UserError(f"--config={file}: no colon here; --models picks systems.")
  if "seed" in settings:
    raise UserError("--config.seed: give --seeds (a sweep: --seed) instead.")
  if "evaluation.splits" in settings:
    raise UserError(
      "--config.evaluation.splits: a table needs both, a sweep never looks at"
      " the test split."
    )
  default = {
    variant.system: read_config([f"--config={file}{colon(variant.system)}"])
    for variant in variants.values()
  }
  known = {
    system: dict(configs.flatten(config)) for system, config in default.items()
  }
  for key in settings:
    if not any(key in keys for keys in known.values()):
      raise UserError(configs.unknown_key(key, list(default.values())[-1]))
  taken = _taken(settings, known, variants)
  runs = []
  for seed in seeds:
    for row, (system, own) in variants.items():
      if system in ITEM_ITEM and seed != seeds[0]:
        continue
      arguments = [f"--config={file}{colon(system)}", f"--config.seed={seed}"]
      arguments += [
        f"--config.{k}={v}" for k, v in {**taken[row], **own}.items()
      ]
      run = Run(row, system, seed, out / f"{row}-{seed}", arguments, own)
      check_folder(run.folder, read_config(arguments))
      runs.append(run)
  return runs


def _taken(
  settings: Mapping[str, str],
  known: Mapping[str, Mapping[str, Any]],
  variants: Mapping[str, Variant],
) -> dict[str, dict[str, str]]:
  """Row -> the settings that its system has and that have an effect on it.

  One without any effect goes to all that have it; they say what it needs.

  Args:
    known: system -> all its settings, as they are without these.
    variants: by row; its own settings count too.
  """
  has = {
    row: {k: v for k, v in settings.items() if k in known[system]}
    for row, (system, _) in variants.items()
  }

  def used(row, key):
    system, own = variants[row]
    values = {**known[system], **has[row], **own}
    return key in has[row] and configs.has_effect(key, values)

  nowhere = {k for k in settings if not any(used(row, k) for row in variants)}
  return {
    row: {k: v for k, v in given.items() if k in nowhere or used(row, k)}
    for row, given in has.items()
  }


def colon(system: str) -> str:
  """What follows a config file's name to choose a system."""
  return "" if system == "mmgrec" else f":{system}"


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
  there = read_json(file, AGAIN)
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


def execute_all(runs: Sequence[Run]) -> list[Run]:
  """Those that are not finished. Returns those that failed."""
  failed = []
  for number, run in enumerate(runs, start=1):
    name = f"[{number}/{len(runs)}] {run.row}, seed {run.seed}"
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


def carry_out(
  plan: Callable[[], list[Run]],
  report: Callable[[list[Run]], None],
  out: Path,
) -> None:
  """Plans, executes what is missing, reports what could be done of it.

  Exits with 1 if some run failed, with 2 at a mistake in what was asked.
  """
  try:
    runs = plan()
    out.mkdir(parents=True, exist_ok=True)
    failed = execute_all(runs)
    if any(run.finished for run in runs):
      report(runs)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
  if failed:
    names = ", ".join(f"{run.row}-{run.seed}" for run in failed)
    print(
      f"\nerror: {len(failed)} of {len(runs)} runs failed ({names}); their"
      " messages are above, and the same command tries them again.",
      file=sys.stderr,
    )
    sys.exit(1)


def write(out: Path, name: str, data: Any, text: str) -> None:
  """NAME.json and NAME.md, the latter printed too."""
  as_json = json.dumps(data, indent=1) + "\n"
  (out / f"{name}.json").write_text(as_json, encoding="utf-8")
  (out / f"{name}.md").write_text(text, encoding="utf-8")
  print(text)


def as_command(main: Callable[[Sequence[str]], None]) -> None:
  """Calls it with the command line; stopped by a signal, it exits with 130."""
  signal.signal(signal.SIGTERM, _stop)
  try:
    main(sys.argv[1:])
  except KeyboardInterrupt:
    with contextlib.suppress(BrokenPipeError):
      print("\nstopped; the same command goes on from here.", file=sys.stderr)
    sys.exit(130)


def _stop(*_) -> None:
  raise KeyboardInterrupt
