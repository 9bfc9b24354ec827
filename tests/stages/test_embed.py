import json

import numpy as np
import pytest

from mmgrec_jax.config import default_config
from mmgrec_jax.data.dataset import TRAIN, VALID, Dataset
from mmgrec_jax.data.folder import save_dataset
from mmgrec_jax.stages import embed as stage
from mmgrec_jax.stages.embed import embed
from mmgrec_jax.stages.rec_ids import make_rec_ids
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


@pytest.fixture
def two_tastes(rng):
  """Users and items of two directions; the items of the first are longer.

  Each user has 10 items to find, all of the user's own direction.
  """
  taste_U, taste_I = np.arange(8) % 2, np.arange(40) % 2
  direction = np.array([[1.0, 0.3], [0.3, 1.0]], np.float32)
  h_user = direction[taste_U]
  length_I = np.where(taste_I == 0, 4.0, 1.0) * rng.uniform(0.99, 1.01, 40)
  h_item = direction[taste_I] * length_I[:, None].astype(np.float32)
  found = np.array(
    [
      (user, item, TRAIN if item < 20 else VALID)
      for user in range(8)
      for item in range(40)
      if taste_U[user] == taste_I[item]
    ]
  )
  data = Dataset(
    "two", *found.astype(np.int32).T, {}, np.arange(8), np.arange(40)
  )
  return h_user, h_item, data


def test_as_much_of_the_norm_is_taken_out_as_validation_likes(
  config, two_tastes, tmp_path, monkeypatch
):
  h_user, h_item, data = two_tastes
  config.embedding = "lattice"
  config.norm_powers = (0.0, 0.5, 1.0)
  monkeypatch.setattr(stage, "joined_features", lambda *_: None)
  monkeypatch.setattr(stage, "train_vectors", lambda *_: (h_user, h_item))
  trained_on = []
  monkeypatch.setattr(
    stage, "_train_rqvae", lambda config, x, folder: trained_on.append(x) or {}
  )
  vectors = embed(config, data, Workdir(tmp_path / "run", config, data))
  norms = json.loads((tmp_path / "run/embed/norm_powers.json").read_text())
  # As they are, the second half of the users is shown the long items.
  assert norms == {"0": 0.5, "0.5": 0.5, "1": 1.0}
  norm_I = np.linalg.norm(vectors.item_IxD, axis=1)
  np.testing.assert_allclose(norm_I, norm_I[0], rtol=1e-5)
  cosine_I = (vectors.item_IxD * h_item).sum(axis=1) / np.linalg.norm(
    h_item, axis=1
  )
  np.testing.assert_allclose(cosine_I, norm_I, rtol=1e-5)
  np.testing.assert_array_equal(trained_on[0], vectors.item_IxD)


def test_one_power_is_taken_without_a_look_at_validation(
  config, two_tastes, tmp_path, monkeypatch
):
  h_user, h_item, data = two_tastes
  config.norm_powers = (0.0,)
  monkeypatch.setattr(stage, "joined_features", lambda *_: None)
  monkeypatch.setattr(stage, "_train_encoder", lambda *_: (h_user, h_item))
  monkeypatch.setattr(stage, "_train_rqvae", lambda *_: {})
  folder = Workdir(tmp_path / "run", config, data)
  monkeypatch.setattr(stage, "valid_recall", None)
  vectors = embed(config, data, folder)
  scale = np.asarray(vectors.item_IxD)[:, 0] / h_item[:, 0]
  np.testing.assert_allclose(scale, scale[0], rtol=1e-5)
  assert not (tmp_path / "run/embed/norm_powers.json").exists()


def test_hkmeans_needs_no_quantizer(config, small_data, tmp_path):
  config.recid.method = "hkmeans"
  config.embed.update(fan_out=(), epochs=1)
  folder = Workdir(tmp_path / "run", config, small_data)
  embed(config, small_data, folder)
  assert set(folder.seconds()) == {"embed"}
  assert make_rec_ids(config, small_data, folder).tokens_IxM.shape == (30, 4)
