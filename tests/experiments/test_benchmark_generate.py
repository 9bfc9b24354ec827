import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_benchmark_runs_end_to_end_and_its_forms_agree(tmp_path):
  command = [sys.executable, "-m", "experiments.benchmarks.generate"]
  done = subprocess.run(
    [*command, f"--out={tmp_path}", "--small"],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  result = json.loads((tmp_path / "generate.json").read_text())
  case = "generate/K=3/B=4"
  for form in ("plain", "unrolled"):
    ratio = result["ratios"][f"{case}/ours, {form}"]
    assert 0 < ratio["min"] <= ratio["median"] <= ratio["max"]
    assert result["agreement"][f"{case}/ours, {form}: equal items"] == 1
  assert (tmp_path / "generate.png").stat().st_size > 0
