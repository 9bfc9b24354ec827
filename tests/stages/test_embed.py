import json

import numpy as np
import pytest

from mmgrec_jax.config import default_config
from mmgrec_jax.data.folder import save_dataset
from mmgrec_jax.stages.embed import embed
from mmgrec_jax.training import parallel, sharded
from mmgrec_jax.workdir import Workdir


@pytest.fixture
def config(small_data, tmp_path):
  save_dataset(small_data, tmp_path / "data")
  config = default_config()
  config.data, config.width = str(tmp_path / "data"), 8
  config.embed.update(fan_out=(3, 2), batch_size=64, epochs=3)
  config.rqvae.update(
    epochs=1, steps_per_epoch=5, codebook_size=8, hidden=8, latent=4
  )
  return config


def test_the_stage_trains_on_sampled_neighbourhoods_in_shared_tables(
  config, small_data, tmp_path, monkeypatch
):
  monkeypatch.setattr(sharded, "LEAST", 20)
  folder = Workdir(tmp_path / "run", config, small_data)
  with parallel.shared_by(2):
    vectors = embed(config, small_data, folder)
  assert vectors.user_UxD.shape == (40, 8) and vectors.item_IxD.shape == (30, 8)
  assert np.isfinite(vectors.item_IxD).all()
  log = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
  epochs = [line for line in map(json.loads, log) if line["stage"] == "embed"]
  assert epochs[-1]["bpr"] < epochs[0]["bpr"]
  # Validated with all neighbours, so by parameters that fit both forms.
  assert all(0 < line["valid"] <= 1 for line in epochs)
