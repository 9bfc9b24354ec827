"""What a run compiles lowers for TPU and CUDA."""

import jax.numpy as jnp
import pytest

from mmgrec_jax import pipeline
from mmgrec_jax.config import from_preset
from mmgrec_jax.models.generator import Vectors
from mmgrec_jax.stages import embed, rankers
from mmgrec_jax.training import parallel, sharded
from mmgrec_jax.workdir import Workdir

SAMPLED = {
  "embed": {"fan_out": (3, 2)},
  "evaluation": {"rescore": {"scores": ()}},
}
# What a text shows where devices have copies, and where two share one.
SHOWS = {1: "all_reduce", 2: '[{"model"}'}


@pytest.fixture(autouse=True)
def short_tables_are_shared_too(monkeypatch):
  monkeypatch.setattr(sharded, "LEAST", 20)


def tiny(preset, overrides):
  config = from_preset({"width": 8, "graph": "segment", **overrides}, preset)
  if "rqvae" in config:
    config.rqvae.update(codebook_size=8, hidden=8, latent=4)
    config.recid.ignore_health = True
    config.generator.update(
      encoder_head_width=4, decoder_head_width=4, feed_forward=8,
      history_length=6,
    )  # fmt: skip
  return config


@pytest.mark.parametrize(
  ("preset", "overrides", "train", "shards", "stages"),
  [
    ("paper", {}, "mmgrec", 1, ["embed", "rqvae", "generate"]),
    ("embedding=gcn", SAMPLED, "mmgrec", 2, ["embed", "rqvae", "generate"]),
    ("distilled", {}, "mmgrec", 2, ["lattice", "rqvae", "generate"]),
    ("tiger", {}, "tiger", 1, ["rqvae", "generate"]),
    ("invrl", {}, "baseline", 1, ["invrl_pretrain", "invrl_mask", "invrl"]),
  ],
)
def test_every_stage_lowers(
  preset, overrides, train, shards, stages, small_data, tmp_path, lower_steps
):
  config, texts = tiny(preset, overrides), {}

  def lower(task, schedule, key):
    state = task.init()
    texts[task.name] = lower_steps(task, state)
    return state.params

  folder = Workdir(tmp_path / "w", config, small_data, rehearse=lower)
  with parallel.shared_by(shards):
    getattr(pipeline, f"train_{train}")(config, small_data, folder)
  assert list(texts) == stages
  without = [name for name, text in texts.items() if SHOWS[shards] not in text]
  # Every device does all of the mask's steps, so they exchange nothing.
  assert without == [name for name in stages if name == "invrl_mask"]


def test_the_beam_search_lowers(small_data, tmp_path, lower_elsewhere):
  config = tiny("tiger", {})
  untrained = lambda task, schedule, key: task.init().params
  folder = Workdir(tmp_path / "w", config, small_data, rehearse=untrained)
  embed.embed_features(config, small_data, folder)
  model, search = pipeline.train_generator(
    config, small_data, folder, Vectors()
  )
  assert model.skip_sure
  history_BxH = jnp.zeros((8, 6), jnp.int32)
  asked = (search, jnp.arange(8), history_BxH, history_BxH)

  def lower(shards):
    with parallel.shared_by(shards):
      recommend = parallel.everywhere(rankers.beams_of(config, model, 5))
      return lower_elsewhere(recommend, *map(parallel.replicate, asked))

  own, shared = lower(1), lower(2)
  assert "stablehlo.while" in own and "stablehlo.while" in shared
  assert SHOWS[2] in shared and SHOWS[2] not in own
