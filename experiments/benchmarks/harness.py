"""Times contestants side by side, in the same process and interleaved.

A benchmark is a function of a `Run`; `main` calls it in fresh processes, once
on all cores and, without a GPU, once pinned to one core. One pinned thread is
the headline there: thread pools under load give ratios that mean nothing. A
GPU is timed by the wall clock.
"""

import argparse
import dataclasses
import importlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments import runs
from experiments.benchmarks import report
from experiments.benchmarks.machine import machine_facts
from mmgrec_jax.errors import UserError

ONE_THREAD = "one thread"
ALL_CORES = "all cores"


@dataclasses.dataclass
class Contestant:
  """`run` does the work once and returns its result when it is really done.

  items: what one call handles, for example users; times are per item.
  """

  name: str
  run: Callable[[], Any]
  items: int = 1


@dataclasses.dataclass
class Run:
  """What one pass over a benchmark has measured. Times are by CASE/CONTESTANT.

  Attributes:
    small: sizes should be tiny, because only the code is being tried.
    one_thread: this process is to use one thread.
    times: per item, the `cpu_ms` and `wall_ms` of each repetition.
    ratios: other / ours of each repetition, by this pass's headline clock.
    agreement: differences or shares, all within their limits.
    numbers: whatever else the benchmark wants in its JSON file.
  """

  small: bool
  one_thread: bool
  times: dict[str, dict[str, list[float]]] = dataclasses.field(
    default_factory=dict
  )
  ratios: dict[str, list[float]] = dataclasses.field(default_factory=dict)
  first_call_seconds: dict[str, float] = dataclasses.field(default_factory=dict)
  agreement: dict[str, float] = dataclasses.field(default_factory=dict)
  numbers: dict[str, Any] = dataclasses.field(default_factory=dict)
  left_out: list[str] = dataclasses.field(default_factory=list)

  @property
  def clock(self) -> str:
    """The headline's: `cpu_ms` on one pinned thread, else `wall_ms`."""
    return "cpu_ms" if self.one_thread else "wall_ms"

  def optional(self, module: str) -> Any:
    """An optional rival's module; None, and a sentence, if it is missing."""
    try:
      found: Any = importlib.import_module(module)
    except ImportError:
      self.left_out.append(module)
      print(
        f"{module} is not installed, so its contestants are left out; the fix"
        " is: pip install 'mmgrec-jax[bench]'"
      )
      return None
    # Two threads on a loaded machine would make a mere trial take minutes.
    if module == "torch" and (self.one_thread or self.small):
      found.set_num_threads(1)
    return found

  def measure(
    self, case: str, contestants: Sequence[Contestant], ours: str
  ) -> dict[str, Any]:
    """Times a group of contestants, interleaved.

    Args:
      case: names the group, e.g. `train/T=16`.
      ours: the contestant that the others are divided by: > 1 means that ours
        is faster.

    Returns:
      each contestant's result, by its name, to check that they agree.
    """
    print(f"[{self._name()}] {case}:", flush=True)
    calls, results = {}, {}
    for c in contestants:
      results[c.name], seconds = timed(c.run, 1)
      self.first_call_seconds[f"{case}/{c.name}"] = seconds["wall_ms"] / 1e3
      _, warm = timed(c.run, 1)
      enough = 5 if self.small else 50
      least = math.ceil(enough / max(warm[self.clock], 1e-3))
      calls[c.name] = min(least, 1000)
      self.times[f"{case}/{c.name}"] = {"cpu_ms": [], "wall_ms": []}
    for repetition in range(5 if self.small else 9):
      first = repetition % len(contestants)
      for c in [*contestants[first:], *contestants[:first]]:
        _, spent = timed(c.run, calls[c.name])
        for clock, ms in spent.items():
          per_item = ms / calls[c.name] / c.items
          self.times[f"{case}/{c.name}"][clock].append(per_item)
    base = self.times[f"{case}/{ours}"][self.clock]
    for c in contestants:
      other = self.times[f"{case}/{c.name}"][self.clock]
      print(f"  {c.name}: {sorted(other)[len(other) // 2]:.4g} ms", flush=True)
      if c.name != ours:
        self.ratios[f"{case}/{c.name}"] = [
          a / max(b, 1e-9) for a, b in zip(other, base, strict=True)
        ]
    return results

  def agree(
    self, name: str, value: float, at_most: float = math.inf,
    at_least: float = -math.inf,
  ) -> None:  # fmt: skip
    """Notes a difference or a share of equal items.

    Raises:
      UserError: it is beyond its limit, so the timings compare unlike things.
    """
    self.agreement[name] = float(value)
    if not at_least <= value <= at_most:  # NaN is refused too
      raise UserError(
        f"The contestants do not agree: {name} is {value:g}, not within"
        f" [{at_least:g}, {at_most:g}], so their times must not be compared."
      )

  def _name(self) -> str:
    return ONE_THREAD if self.one_thread else ALL_CORES


def timed(run: Callable[[], Any], calls: int) -> tuple[Any, dict[str, float]]:
  """The last result, and ms of all calls by either clock."""
  cpu, wall = time.process_time(), time.perf_counter()
  result = None
  for _ in range(calls):
    result = run()
  return result, {
    "cpu_ms": 1e3 * (time.process_time() - cpu),
    "wall_ms": 1e3 * (time.perf_counter() - wall),
  }


def _child(
  measure: Callable[[Run], None], one_thread: bool, small: bool, path: Path
) -> None:
  """One pass, in its own process. Writes what `Run` holds."""
  run = Run(small, one_thread)
  load = list(os.getloadavg())
  measure(run)
  machine = {
    "load_before": load,
    "load_after": list(os.getloadavg()),
    **machine_facts(small),
  }
  path.write_text(json.dumps(dataclasses.asdict(run) | {"machine": machine}))


def _pass(name: str, module: str, small: bool) -> dict[str, Any]:
  """Runs one pass in a fresh process and reads what it measured."""
  environment, cores = dict(os.environ), None
  if name == ONE_THREAD:
    for key in ("OMP", "MKL", "OPENBLAS"):
      environment[f"{key}_NUM_THREADS"] = "1"
    environment["NPROC"] = "1"  # the size of XLA's thread pool
    environment["XLA_FLAGS"] = (
      os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
    )
    if hasattr(os, "sched_setaffinity"):
      cores = os.sched_getaffinity(0)
      os.sched_setaffinity(0, {max(cores)})  # the child inherits it
    else:
      print("This system cannot pin a process to a core: times vary more.")
  with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "pass.json"
    command = [sys.executable, "-m", module, f"--pass={name}", f"--out={path}"]
    try:
      child = subprocess.run(
        command + ["--small"] * small, env=environment, check=False
      )
    finally:
      if cores:
        os.sched_setaffinity(0, cores)
    if child.returncode:
      sys.exit(child.returncode)  # it has said why
    return json.loads(path.read_text())


def main(
  name: str,
  measure: Callable[[Run], None],
  plot: Callable[[dict[str, Any], Path], None] = report.bars,
) -> None:
  """The command line of the benchmark experiments/benchmarks/NAME.py.

  Args:
    measure: the benchmark; called once in each pass.
    plot: draws the merged results to a path.
  """
  parser = argparse.ArgumentParser(prog=f"experiments.benchmarks.{name}")
  parser.add_argument("--out", type=Path, required=True, help="results' folder")
  parser.add_argument("--small", action="store_true", help="tiny, to try it")
  parser.add_argument("--pass", dest="only", help=argparse.SUPPRESS)
  flags = parser.parse_args()
  try:
    if flags.only:
      _child(measure, flags.only == ONE_THREAD, flags.small, flags.out)
      return
    runs.make_folder(flags.out)
  except UserError as error:
    sys.exit(str(error))
  module = f"experiments.benchmarks.{name}"
  passes = {ALL_CORES: _pass(ALL_CORES, module, flags.small)}
  if passes[ALL_CORES]["machine"]["backend"] == "cpu":
    passes = {ONE_THREAD: _pass(ONE_THREAD, module, flags.small)} | passes
  merged = report.merge(passes)
  path = flags.out / f"{name}.json"
  path.write_text(json.dumps(merged, indent=1) + "\n")
  report.print_table(merged)
  print(f"Results are in {path}")
  report.draw(plot, merged, flags.out / f"{name}.png")
