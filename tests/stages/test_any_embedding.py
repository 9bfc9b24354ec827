"""MMGRec on the vectors of the models that make them wider than D."""

import pytest

from mmgrec_jax import pipeline
from mmgrec_jax.config import from_preset
from mmgrec_jax.workdir import Workdir


@pytest.mark.parametrize("name", ["grcn", "invrl", "lightgt", "ngcf", "vbpr"])
def test_its_vectors_make_rec_ids_and_a_generator(name, small_data, tmp_path):
  overrides = {"width": 8, "evaluation": {"rescore": {"scores": ()}}}
  config = from_preset(overrides, f"embedding={name}")
  config.rqvae.update(codebook_size=8, hidden=8, latent=4)
  config.recid.ignore_health = True
  config.generator.update(feed_forward=8, history_length=6)
  untrained = lambda task, schedule, key: task.init().params
  folder = Workdir(tmp_path, config, small_data, rehearse=untrained)
  _, search = pipeline.train_mmgrec(config, small_data, folder)["mmgrec"]
  assert search.vectors.item_IxD.shape[1] > config.width
  assert search.params
