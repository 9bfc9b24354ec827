"""Many runs of `python -m mmgrec_jax.main`, one after the other.

Each is a process with a workdir of its own: a failure ends that run alone, and
what is finished is not run again.
"""

import argparse
import contextlib
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags

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

  def results(self) -> dict[str, Any]:
    return json.loads((self.folder / "results.json").read_text())


def parse(
  parser: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[argparse.Namespace, dict[str, str]]:
  """A parser's flags, and KEY -> VALUE of every --config.KEY=VALUE."""
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


def with_system(file: str, system: str) -> str:
  """What --config takes: a file, and the system after a colon.

  Raises:
    UserError: there is a colon already.
  """
  if ":" in file:
    raise UserError(f"--config={file}: no colon here; --models picks systems.")
  return file if system == "mmgrec" else f"{file}:{system}"


def by_system(
  settings: Mapping[str, str], systems: Sequence[str]
) -> dict[str, dict[str, str]]:
  """Each setting goes to the systems that have it.

  Raises:
    UserError: none has it.
  """
  known = {s: dict(configs.flatten(configs.default_config(s))) for s in systems}
  for key in settings:
    if not any(key in keys for keys in known.values()):
      raise UserError(configs.unknown_key(key, systems[-1]))
  return {
    system: {k: v for k, v in settings.items() if k in known[system]}
    for system in systems
  }


def arguments_of(config: str, settings: Mapping[str, str]) -> list[str]:
  """Flags of `mmgrec_jax.main`, but the workdir."""
  changes = [f"--config.{key}={value}" for key, value in settings.items()]
  return [f"--config={config}", *changes]


def plan_run(
  arguments: Sequence[str], folder_of: Callable[[configs.Config], Path]
) -> Run:
  """A run, checked: its settings are right, and its folder is its own.

  Raises:
    UserError: no such config file or setting, a bad value, or a folder with
      other settings.
  """
  config = read_config(arguments)
  folder = folder_of(config)
  check_folder(folder, config)
  command = [sys.executable, "-m", "mmgrec_jax.main", *arguments]
  command.append(f"--workdir={folder}")
  return Run(config.system, config.seed, folder, command)


def read_config(arguments: Sequence[str]) -> configs.Config:
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
    raise UserError(explain(list(arguments), error)) from error
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


def execute_all(runs: Sequence[Run]) -> list[Run]:
  """Those that are not finished. Returns those that failed."""
  failed = []
  for number, run in enumerate(runs, start=1):
    name = f"[{number}/{len(runs)}] {run.folder.name}"
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


def report_failed(failed: Sequence[Run], runs: Sequence[Run]) -> None:
  """Ends the process with code 1 if there are any."""
  if failed:
    names = ", ".join(run.folder.name for run in failed)
    print(
      f"\nerror: {len(failed)} of {len(runs)} runs failed ({names}); their"
      " messages are above, and the same command tries them again.",
      file=sys.stderr,
    )
    sys.exit(1)


def same_data(results: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
  """The data set that results.json of all runs tell of.

  Raises:
    UserError: there are several.
  """
  first, *others = [one["dataset"] for one in results]
  if any(one["fingerprint"] != first["fingerprint"] for one in others):
    raise UserError(
      "The runs are of different data (see dataset.json in each); give"
      " another --out, or delete the older ones."
    )
  return first


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
  """The first row is the head; columns are padded."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  line = lambda cells: f"| {' | '.join(cells)} |"
  pad = lambda cells: [
    cell.ljust(width) for cell, width in zip(cells, widths, strict=True)
  ]
  lines = [line(pad(cells)) for cells in rows]
  lines.insert(1, line(["-" * width for width in widths]))
  return "\n".join(lines)


@contextlib.contextmanager
def explained() -> Iterator[None]:
  """Around `main`: a person's mistake is one sentence and exit code 2."""
  try:
    yield
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def start(main: Callable[[Sequence[str]], None]) -> None:
  """`main` as a command: SIGTERM and Ctrl-C end it and its child in order."""

  def stop(*_):
    raise KeyboardInterrupt

  signal.signal(signal.SIGTERM, stop)
  try:
    main(sys.argv[1:])
  except KeyboardInterrupt:
    with contextlib.suppress(BrokenPipeError):
      print("\nstopped; the same command goes on from here.", file=sys.stderr)
    sys.exit(130)
