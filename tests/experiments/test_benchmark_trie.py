import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORMS = {"packed bits", "dense table", "binary search", "Python hash"}
CASES = {"uniform 2000", "skewed 2000"}


def test_trie_benchmark_runs_and_its_forms_agree(tmp_path):
  command = [sys.executable, "-m", "experiments.benchmarks.trie", "--small"]
  done = subprocess.run(
    [*command, f"--out={tmp_path}"], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  found = json.loads((tmp_path / "trie.json").read_text())
  assert found["small"] and found["semantic_size"] == 16

  everything = {f"{case}/{form}" for case in CASES for form in FORMS}
  for times in found["times"].values():
    assert set(times) == everything
    assert all(t["wall_ms"]["median"] > 0 for t in times.values())
  assert set(found["ratios"]) == {
    name for name in everything if "packed" not in name
  }
  # Every form gave the same masks on prefixes of every length.
  assert len(found["agreement"]) == len(everything)
  assert set(found["agreement"].values()) == {0.0}

  for case in CASES:
    forms = found[case]["forms"]
    assert set(forms) == FORMS
    for cost in forms.values():
      assert cost["build_seconds"] > 0 and cost["mask_bytes"] > 0
    packed, dense = forms["packed bits"], forms["dense table"]
    assert packed["mask_bytes"] < dense["mask_bytes"]
    assert packed["catalogue_bytes"] < dense["catalogue_bytes"]
