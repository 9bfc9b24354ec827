import importlib.util

HAS_TORCH = importlib.util.find_spec("torch") is not None


def test_models_benchmark_runs_and_lightgcn_agrees_with_torch(run_small):
  found = run_small("models")

  rival = {"lightgcn/torch CSR"} if HAS_TORCH else set()
  others = {"models/mf", "models/lattice"}
  assert set(found["ratios"]) == others | rival
  if HAS_TORCH:
    assert found["agreement"]["lightgcn/loss"] <= 1e-5
    assert found["agreement"]["lightgcn/gradient"] <= 1e-4

  assert set(found["epochs"]) == {"mf", "lightgcn", "lattice"}
  assert set(found["memory"]) == set(found["epochs"])
  assert found["epochs"]["lightgcn"]["to_lightgcn"] == 1
  assert all(epoch["seconds"] > 0 for epoch in found["epochs"].values())
  for gib in found["memory"].values():
    assert 0 < gib["program_gib"] < gib["process_gib"] < 4
    assert gib["process_before_gib"] <= gib["process_gib"]
  assert found["over_the_limit"] == []
