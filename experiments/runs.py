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

from mmgrec_jax.errors import UserError


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
  def name(self) -> str:
    return f"{self.row}-{self.seed}"

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


def add_models(
  out: argparse.ArgumentParser, rows: Sequence[str], more: str = ""
) -> None:
  """--models, for `chosen_rows`; `more` is said of it, too."""
  said = f"all (the default), or some of {', '.join(rows)}{more}"
  out.add_argument("--models", default="all", help=said)


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


def unfinished(runs: Sequence[Run]) -> list[str]:
  return [run.name for run in runs if not run.finished]


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
    make_folder(out)
    failed = execute_all(runs)
    if any(run.finished for run in runs):
      report(runs)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
  if failed:
    names = ", ".join(run.name for run in failed)
    print(
      f"\nerror: {len(failed)} of {len(runs)} runs failed ({names}); their"
      " messages are above, and the same command tries them again.",
      file=sys.stderr,
    )
    sys.exit(1)


def make_folder(out: Path) -> None:
  """Raises UserError where there cannot be such a folder."""
  try:
    out.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(
      f"--out={out}: cannot be a folder ({error.strerror}); give another."
    ) from error


def write(out: Path, name: str, data: Any, text: str) -> None:
  """NAME.json and NAME.md, the latter printed too."""
  as_json = json.dumps(data, indent=1) + "\n"
  (out / f"{name}.json").write_text(as_json, encoding="utf-8")
  (out / f"{name}.md").write_text(text, encoding="utf-8")
  print(text)


def as_command(
  main: Callable[[Sequence[str]], None], then: str = "goes on from here"
) -> None:
  """Calls it with the command line; stopped by a signal, it exits with 130.

  Args:
    then: what the same command does afterwards, for the message.
  """
  signal.signal(signal.SIGTERM, _stop)
  try:
    main(sys.argv[1:])
  except KeyboardInterrupt:
    with contextlib.suppress(BrokenPipeError):
      print(f"\nstopped; the same command {then}.", file=sys.stderr)
    sys.exit(130)


def _stop(*_) -> None:
  raise KeyboardInterrupt
