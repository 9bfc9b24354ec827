import importlib.util

HAS_FAISS = importlib.util.find_spec("faiss") is not None
SIZES = (1_000, 4_000)
EXACT = ["jax", "numpy", *["faiss"] * HAS_FAISS]


def test_figure5_benchmark_runs_and_searches_agree(run_small):
  found = run_small("figure5")
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
