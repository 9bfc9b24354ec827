import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_evaluate_benchmark_runs_and_both_forms_agree(tmp_path):
  done = subprocess.run(
    [sys.executable, "-m", "experiments.benchmarks.evaluate", "--small",
     f"--out={tmp_path}"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    # Speed of what is compiled does not matter here, speed of compiling does.
    env=os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"},
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  found = json.loads((tmp_path / "evaluate.json").read_text())
  assert set(found["ratios"]) == {"evaluate/switches off"}
  assert found["agreement"]["evaluate: users with equal Recall@5"] == 1
