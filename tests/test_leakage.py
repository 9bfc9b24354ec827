"""Only training interactions reach a model: the test split changes nothing."""

import jax
import numpy as np

from mmgrec_jax.config import default_config
from mmgrec_jax.decoding.trie import build_trie
from mmgrec_jax.stages import embed, generate, rec_ids
from mmgrec_jax.workdir import Workdir


def test_changing_the_test_split_leaves_parameters_bit_equal(
  small_data, other_test_items, tmp_path
):
  assert other_test_items.fingerprint != small_data.fingerprint
  config = default_config()
  config.width = 8
  config.embed.update(epochs=2, batch_size=128)
  config.rqvae.update(
    epochs=1, steps_per_epoch=5, codebook_size=8, hidden=8, latent=4
  )
  config.recid.ignore_health = True
  config.generator.update(
    epochs=1, heads=1, encoder_head_width=4, decoder_head_width=4,
    feed_forward=8, history_length=6, targets_per_history=2,
  )  # fmt: skip
  made = []
  for name, data in (("a", small_data), ("b", other_test_items)):
    folder = Workdir(tmp_path / name, config, data)
    vectors = embed.embed(config, data, folder)
    ids = rec_ids.make_rec_ids(config, data, folder)
    model = generate.build_generator(config, ids, vectors)
    params = generate.train_generator(
      config, data, folder, model, vectors, build_trie(ids)
    )
    made.append(jax.device_get((vectors, ids.tokens_IxM, params)))
  jax.tree.map(np.testing.assert_array_equal, *made)
