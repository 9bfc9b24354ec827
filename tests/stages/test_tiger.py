"""TIGER's stages: Rec-IDs of the features alone, read in the order of time."""

import dataclasses

import jax
import numpy as np
import pytest

from mmgrec_jax import pipeline
from mmgrec_jax.config import default_config
from mmgrec_jax.data.dataset import TEST
from mmgrec_jax.errors import UserError
from mmgrec_jax.stages.load import load_data
from mmgrec_jax.workdir import Workdir


@pytest.fixture
def trained(tmp_path, small_data):
  """Trains on changed data; returns the folder, Rec-IDs and parameters."""
  config = default_config("tiger")
  config.width = 8
  config.rqvae.update(
    epochs=1, steps_per_epoch=5, codebook_size=8, hidden=8, latent=4
  )
  config.recid.ignore_health = True
  config.generator.update(
    epochs=1, heads=1, encoder_head_width=4, decoder_head_width=4,
    feed_forward=8, history_length=6, targets_per_history=2,
  )  # fmt: skip

  def train(name, **changes):
    data = dataclasses.replace(small_data, **changes)
    folder = Workdir(tmp_path / name, config, data)
    (_, arguments), *others = pipeline.train_tiger(
      config, data, folder
    ).values()
    assert not others
    params, vectors = arguments.params, arguments.vectors
    return folder.path, vectors, jax.device_get(params)

  return train


def test_there_is_no_gcn_and_no_vector_of_a_user_or_an_item(trained):
  path, vectors, params = trained("a")
  assert not (path / "embed" / "gcn").exists()
  with np.load(path / "embed" / "vectors.npz") as saved:
    assert set(saved) == {"codes", "r2"}
  assert vectors.user_UxD is None and vectors.item_IxD is None
  assert "items" not in params


def test_the_order_of_training_reaches_the_parameters_the_test_split_does_not(
  trained, small_data, other_test_items
):
  other_items = other_test_items.item_E
  time = np.arange(len(small_data.user_E))
  rng = np.random.default_rng(0)
  test = small_data.split_E == TEST
  moved = np.where(test, time, rng.permutation(time))
  *_, timed = trained("timed", timestamp_E=time)
  *_, other_test = trained("test", timestamp_E=time, item_E=other_items)
  *_, other_order = trained("order", timestamp_E=moved)
  jax.tree.map(np.testing.assert_array_equal, timed, other_test)
  table = lambda params: params["tokens"]["embedding"]
  assert np.abs(table(timed) - table(other_order)).max() > 1e-6


def test_without_timestamps_the_order_of_the_rows_means_nothing(
  trained, small_data, rng, capsys
):
  order = rng.permutation(len(small_data.user_E))
  *_, stored = trained("stored")
  assert "histories: in no order, as" in capsys.readouterr().out
  *_, moved = trained(
    "moved",
    user_E=small_data.user_E[order],
    item_E=small_data.item_E[order],
    split_E=small_data.split_E[order],
  )
  jax.tree.map(np.testing.assert_array_equal, stored, moved)


def test_without_a_modality_there_are_no_rec_ids(tmp_path):
  config = default_config("tiger")
  np.savez(
    tmp_path / "interactions.npz", user=[0, 0], item=[0, 1], split=[0, 2]
  )
  config.data = str(tmp_path)
  with pytest.raises(UserError, match="at least one item modality"):
    load_data(config)
