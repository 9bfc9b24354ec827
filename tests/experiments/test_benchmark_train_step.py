import importlib.util
import math

HAS_TORCH = importlib.util.find_spec("torch") is not None
OURS = {"ours", "ours, plain form"}
BEST = {"ours T=1", "ours T=2"}


def test_train_step_benchmark_runs_and_gradients_agree(run_small):
  found = run_small("train_step")

  rival = {"torch eager"} if HAS_TORCH else set()
  published = {"reference's trainer"} if HAS_TORCH else set()
  everything = {
    f"train/{case}/{name}"
    for case, names in (
      ("T=1", OURS | rival),
      ("T=2", OURS | rival),
      ("best T", BEST | published),
    )
    for name in names
  }
  assert [set(times) for times in found["times"].values()] == [everything] * 2
  base = {"train/T=1/ours", "train/T=2/ours"}
  base.add(f"train/best T/ours T={found['best_T']}")
  assert set(found["ratios"]) == everything - base
  for name, rate in found["targets_per_second"].items():
    median = found["times"]["one thread"][name]["cpu_ms"]["median"]
    assert math.isclose(rate, 1000 / median)

  assert len(found["agreement"]) == (4 if HAS_TORCH else 0)
  assert all(0 <= value <= 1e-5 for value in found["agreement"].values())
