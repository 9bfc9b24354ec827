def test_evaluate_benchmark_runs_and_both_forms_agree(run_small):
  found = run_small("evaluate")
  assert set(found["ratios"]) == {"evaluate/switches off"}
  assert found["agreement"]["evaluate: users with equal Recall@5"] == 1
