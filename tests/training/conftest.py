import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.config import default_config
from mmgrec_jax.data import neighbours, sampling
from mmgrec_jax.data.dataset import TRAIN
from mmgrec_jax.decoding.trie import build_trie
from mmgrec_jax.graph import bipartite_graph
from mmgrec_jax.models.generator import Generator, Vectors
from mmgrec_jax.models.graph_rqvae import RQVAE, GraphEncoder
from mmgrec_jax.recid.assign import assign_rec_ids
from mmgrec_jax.training import embedding, generating


@pytest.fixture
def make_generator_task(small_data):
  """A tiny generator task, 4 steps an epoch."""

  def make(
    validate=lambda params: 0.0, dropout=0.0, share=0.7, lists=None, **optimizer
  ):
    rng = np.random.default_rng(0)
    rows = small_data.rows(TRAIN)
    ids = assign_rec_ids(
      rng.integers(0, 4, (30, 3)), 4, small_data.popularity()
    )
    vectors = Vectors(
      jnp.asarray(rng.normal(size=(40, 8)), jnp.float32),
      jnp.asarray(rng.normal(size=(30, 8)), jnp.float32),
    )
    model = Generator(
      ids.vocabulary, n_items=30, width=8, encoder_layers=1, decoder_layers=1,
      heads=2, encoder_head_width=4, decoder_head_width=4, feed_forward=8,
      dropout=dropout,
    )  # fmt: skip
    settings = default_config().generator
    settings.update(targets_per_history=3, history_length=6, epochs=3)
    settings.soft_targets.share = share
    data = generating.generator_data(
      vectors, build_trie(ids), rows, 3, False, lists
    )
    settings.batch_size = -(-len(data.windows.user_S) // 4)
    settings.optimizer.update(optimizer)
    return generating.generator_task(
      model, data, settings, validate, jax.random.key(0)
    )

  return make


@pytest.fixture
def make_embedding_task(small_data):
  """A tiny Graph RQ-VAE task."""

  def make(
    validate=lambda params: 0.0,
    quantize_features=False,
    graph="auto",
    fan_out=(),
    dropout=0.0,
    **rqvae,
  ):
    settings = default_config()
    settings.embed.update(batch_size=63, epochs=3, negatives=2, fan_out=fan_out)
    settings.rqvae.update(codebook_size=8, latent=4, batch_size=15, **rqvae)
    rows = small_data.rows(TRAIN)
    inputs = embedding.EmbeddingData(
      neighbours.users_of(rows, 30)
      if fan_out
      else bipartite_graph(*small_data.edges(TRAIN), 40, 30, graph),
      jnp.asarray(small_data.features["text"]),
      sampling.on_device(rows, 30),
    )
    return embedding.embedding_task(
      GraphEncoder(40, 30, width=8, dropout=dropout),
      RQVAE(8, 4, levels=3, codebook_size=8),
      inputs,
      settings.embed,
      settings.rqvae,
      quantize_features,
      validate,
      jax.random.key(0),
      seed=0,
    )

  return make
