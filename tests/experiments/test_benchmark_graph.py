import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS, SEGMENT = "small/ours", "small/jraph segment mean"
TORCH = {"small/torch index_add", "small/torch CSR"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """The benchmark at a tiny size, as a person runs it."""
  folder = tmp_path_factory.mktemp("graph")
  command = [sys.executable, "-m", "experiments.benchmarks.graph"]
  done = subprocess.run(
    [*command, f"--out={folder}", "--small"],
    cwd=ROOT, text=True, capture_output=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  return done.stdout, json.loads((folder / "graph.json").read_text()), folder


@pytest.fixture
def rivals():
  has_torch = importlib.util.find_spec("torch") is not None
  return {SEGMENT} | (TORCH if has_torch else set())


def test_every_rival_has_its_ratio_in_both_passes(finished, rivals):
  _, result, _ = finished
  for ratios in (result["ratios"], result["ratios_all_cores"]):
    assert set(ratios) == rivals
    for ratio in ratios.values():
      assert 0 < ratio["min"] <= ratio["median"] <= ratio["max"]
  assert (result["headline"], result["clock"]) == ("one thread", "cpu_ms")
  assert result["small"] is True


def test_repetitions_and_first_calls_are_kept(finished, rivals):
  _, result, _ = finished
  assert set(result["repetitions"]) == {"one thread", "all cores"}
  for times in result["repetitions"].values():
    assert set(times) == rivals | {OURS}
    assert all(len(ms["cpu_ms"]) >= 5 for ms in times.values())
    assert all(len(ms["wall_ms"]) >= 5 for ms in times.values())
  assert set(result["first_call_seconds"]) == rivals | {OURS}


def test_ratios_are_paired_by_repetition(finished):
  _, result, _ = finished
  ours, segment = (
    result["repetitions"]["one thread"][name]["cpu_ms"]
    for name in (OURS, SEGMENT)
  )
  paired = [b / a for a, b in zip(ours, segment, strict=True)]
  ratio = result["ratios"][SEGMENT]
  assert ratio["min"] == pytest.approx(min(paired))
  assert ratio["max"] == pytest.approx(max(paired))


def test_outputs_and_gradients_agreed(finished, rivals):
  _, result, _ = finished
  names = {
    f"{n}: {what}" for n in rivals | {OURS} for what in ("output", "gradient")
  }
  assert set(result["agreement"]) == names
  assert max(result["agreement"].values()) <= 1e-4


def test_the_machine_is_described(finished):
  _, result, _ = finished
  for machine in result["machine"].values():
    assert machine["backend"] == "cpu" and machine["matmul_gflops"] > 0
    assert len(machine["load_before"]) == len(machine["load_after"]) == 3
  graph = result["graphs"]["small"]
  assert graph["nodes"] == 150 and graph["directed_edges"] == 1400
  assert graph["largest_degree"] > 16  # hubs own several rows


def test_a_person_sees_a_table_and_gets_a_plot(finished, rivals):
  printed, _, folder = finished
  table = printed[printed.index("others / ours") :]
  assert all(name in table for name in rivals | {OURS})
  assert (folder / "graph.png").read_bytes().startswith(b"\x89PNG")
