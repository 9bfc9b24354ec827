import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HAS_FAISS = importlib.util.find_spec("faiss") is not None
SIZES = (1_000, 4_000)
EXACT = ["jax", "numpy", *["faiss"] * HAS_FAISS]


def test_figure5_benchmark_runs_and_searches_agree(tmp_path):
  command = [sys.executable, "-m", "experiments.benchmarks.figure5", "--small"]
  # Speed of what is compiled does not matter here, speed of compiling does.
  flags = "--xla_backend_optimization_level=0"
  done = subprocess.run(
    [*command, f"--out={tmp_path}"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    env=os.environ | {"XLA_FLAGS": flags},
  )
  assert done.returncode == 0, done.stderr
  found = json.loads((tmp_path / "figure5.json").read_text())
  assert found["small"] and found["sizes"] == list(SIZES)

  rivals = [f"MF, exact, {name}" for name in EXACT]
  rivals += ["MF, IVF, faiss"] * HAS_FAISS
  ratios = {f"{n} items/{rival}" for n in SIZES for rival in rivals}
  ratios.add("ours as the catalogue grows/4000 items")
  assert set(found["ratios"]) == ratios
  bases = {f"{n} items/ours" for n in SIZES}
  bases.add("ours as the catalogue grows/1000 items")
  for times in found["times"].values():
    assert set(times) == ratios | bases

  agreement = found["agreement"]
  for n in SIZES:
    assert agreement[f"{n} items/ours: wrong items"] == 0
    for name in EXACT:
      assert agreement[f"{n} items/MF, exact, {name}: shared items"] >= 0.99
    if HAS_FAISS:
      assert agreement[f"{n} items/MF, IVF, faiss: recall@10"] >= 0.95
      ivf = found[f"{n} items, IVF"]
      assert 1 <= ivf["lists_read"] <= ivf["lists"]
