import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_small(tmp_path):
  """Runs a benchmark's command at its small size; what its JSON file holds."""

  def run(name):
    command = [sys.executable, "-m", f"experiments.benchmarks.{name}"]
    done = subprocess.run(
      [*command, "--small", f"--out={tmp_path}"],
      cwd=ROOT,
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((tmp_path / f"{name}.json").read_text())

  return run
