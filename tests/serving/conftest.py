import pytest

from mmgrec_jax import pipeline
from mmgrec_jax.config import default_config
from mmgrec_jax.data.folder import save_dataset


@pytest.fixture(scope="session")
def baseline_runs(small_data, tmp_path_factory):
  """Finished runs of a model with vectors and of one with a matrix."""
  folder = tmp_path_factory.mktemp("baselines")
  save_dataset(small_data, folder / "data")
  for system in ("lightgcn", "itemknn"):
    config = default_config(system)
    config.data = str(folder / "data")
    config.evaluation.cutoffs = (10,)
    if system == "lightgcn":
      config.width, config.model.epochs = 8, 2
      config.model.update(loss="bpr", negatives=1, l2=1e-4)
    pipeline.run(config, folder / system)
  return folder
