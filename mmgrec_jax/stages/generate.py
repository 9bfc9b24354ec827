"""Stage 4: the generator learns to write the Rec-IDs of liked items."""

from typing import Any

import jax.numpy as jnp

from mmgrec_jax.config import Config
from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.decoding.trie import Trie
from mmgrec_jax.evaluation.evaluate import valid_recall
from mmgrec_jax.models.generator import Generator, Vectors
from mmgrec_jax.recid.assign import RecIds
from mmgrec_jax.stages.load import stage_key
from mmgrec_jax.stages.rankers import (
  Search,
  beam_ranker,
  histories,
  reads_in_time,
)
from mmgrec_jax.stages.teaching import make_teacher
from mmgrec_jax.stages.train import train
from mmgrec_jax.training import generating, parallel
from mmgrec_jax.training.loop import Schedule
from mmgrec_jax.workdir import Workdir


def build_generator(
  config: Config, rec_ids: RecIds, vectors: Vectors
) -> Generator:
  """The module that `config.generator` describes, as wide as the vectors."""
  chosen, h_IxD = config.generator, vectors.item_IxD
  return Generator(
    vocabulary=rec_ids.vocabulary,
    n_items=len(rec_ids.tokens_IxM),
    width=config.width if h_IxD is None else h_IxD.shape[1],
    encoder=chosen.encoder,
    item_embedding=chosen.item_embedding,
    user_token=chosen.user_token,
    trie_softmax=chosen.trie_softmax,
    encoder_layers=chosen.encoder_layers,
    decoder_layers=chosen.decoder_layers,
    heads=chosen.heads,
    encoder_head_width=chosen.encoder_head_width,
    decoder_head_width=chosen.decoder_head_width,
    feed_forward=chosen.feed_forward,
    dropout=chosen.dropout,
    folded=chosen.folded,
    skip_sure=chosen.skip_sure,
    dtype=jnp.dtype(config.dtype),
  )


def train_generator(
  config: Config,
  data: Dataset,
  folder: Workdir,
  model: Generator,
  vectors: Vectors,
  trie: Trie,
) -> Any:
  """Trains (or goes on); returns the best epoch's parameters (host).

  Args:
    vectors: as `embed` gives them.
  """
  ranker = beam_ranker(config, data, model, config.evaluation.valid_beam_width)
  fixed = parallel.replicate((vectors, trie))

  def validate(params) -> float:
    return valid_recall(ranker, Search(params, *fixed), data)

  settings = config.generator
  inputs = generating.generator_data(
    vectors,
    trie,
    histories(config, data),
    settings.targets_per_history,
    settings.user_token,
    make_teacher(config, data, folder, vectors),
  )
  in_time = reads_in_time(config, data)
  if settings.history_order == "time" and not in_time:
    print(f"histories: in no order, as {data.name} has no timestamps")
  task = generating.generator_task(
    model, inputs, settings, validate, stage_key(config, 4), in_time
  )
  schedule = Schedule.of(settings, config.train)
  return train(folder, task, schedule, stage_key(config, 5))
