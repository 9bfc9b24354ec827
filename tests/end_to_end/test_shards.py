"""A whole run on four devices, two to a copy of the tables, against one."""

import json

import numpy as np
import pytest

from mmgrec_jax import pipeline
from mmgrec_jax.serving.trained import read_config
from mmgrec_jax.training import sharded

# Sums are added up in another order. Of 40 users, one list with one item more
# or less moves a recall by more than this.
ROUNDING = 1e-4


@pytest.fixture(scope="module")
def runs(mmgrec_run, tmp_path_factory):
  """Workdirs of the run of one device, and of the same with shared tables."""
  folder = tmp_path_factory.mktemp("shared")
  config = read_config(mmgrec_run)
  config.model_shards = 2
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sharded, "LEAST", 20)  # the tables are short
    pipeline.run(config, folder)
  return mmgrec_run, folder


def arrays(path):
  with np.load(path) as saved:
    return {key: saved[key] for key in saved.files}


def test_vectors_and_rec_ids_are_the_same(runs):
  one, two = (arrays(run / "embed" / "vectors.npz") for run in runs)
  for name in ("user", "item"):
    np.testing.assert_allclose(one[name], two[name], atol=ROUNDING)
  one, two = (arrays(run / "recids.npz") for run in runs)
  assert all(np.array_equal(one[key], two[key]) for key in one)


def test_metrics_and_lists_are_the_same(runs):
  one, two = (
    json.loads((run / "results.json").read_text())["valid"] for run in runs
  )
  assert one.keys() == two.keys()
  for system, scores in one.items():
    assert two[system] == pytest.approx(scores, abs=ROUNDING)
  one, two = (arrays(run / "per_user.npz") for run in runs)
  for system in ("embedding", "generator", "mmgrec"):
    items = f"valid/{system}/items"
    assert one[items].shape[1] >= 10
    np.testing.assert_array_equal(one[items], two[items])
