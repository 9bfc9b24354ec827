import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def core_of_worker() -> Iterator[None]:
  """What starts in here runs on one core, another one in each test process.

  Benchmarks pin themselves to the last core that they may use: left to that,
  those of all test processes would share it while other cores are idle.
  """
  if not hasattr(os, "sched_setaffinity"):
    yield
    return
  cores = os.sched_getaffinity(0)
  worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
  os.sched_setaffinity(0, {sorted(cores)[worker % len(cores)]})
  try:
    yield
  finally:
    os.sched_setaffinity(0, cores)


@pytest.fixture
def run_small(tmp_path):
  """Runs a benchmark's command at its small size; what its JSON file holds."""

  def run(name):
    command = [sys.executable, "-m", f"experiments.benchmarks.{name}"]
    with core_of_worker():
      done = subprocess.run(
        [*command, "--small", f"--out={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
      )
    assert done.returncode == 0, done.stderr
    return json.loads((tmp_path / f"{name}.json").read_text())

  return run
