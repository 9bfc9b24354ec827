"""The checks on what a person sets."""

import difflib
import math
from collections.abc import Mapping
from typing import Any

from mmgrec_jax.config.defaults import (
  EMBEDDINGS,
  SCORES,
  SYSTEMS,
  Config,
  default_like,
  model_name,
)
from mmgrec_jax.config.values import flatten, unknown_key
from mmgrec_jax.errors import UserError
from mmgrec_jax.models import settings as baselines

CHOICES = {
  "feature_norm": ("zscore_l2", "none"),
  "dtype": ("float32", "bfloat16"),
  "graph": ("auto", "ell", "segment"),
  "embed.optimizer.name": ("adamw", "muon", "sgd"),
  "embed.optimizer.schedule": ("cosine", "constant"),
  "rqvae.optimizer.name": ("adamw", "muon", "sgd"),
  "rqvae.optimizer.schedule": ("cosine", "constant"),
  "rqvae.codebook_start": ("kmeans", "uniform"),
  "generator.optimizer.name": ("adamw", "muon", "sgd"),
  "generator.optimizer.schedule": ("cosine", "constant"),
  "generator.encoder": ("relation", "sinusoidal", "none"),
  "generator.item_embedding": ("pretrained", "finetuned", "learned", "rec_id"),
  "generator.history_order": ("random", "time"),
  "generator.soft_targets.teacher": ("vectors", "rescored"),
  "generator.trie": ("packed", "dense"),
  "recid.method": ("graph_rqvae", "features", "hkmeans"),
  "recid.last_token": ("popularity", "random"),
  "model.optimizer.name": ("adamw", "muon", "sgd"),
  "model.optimizer.schedule": ("cosine", "constant"),
}

# What TIGER has no choice in: there are no vectors of users and items.
TIGER_CHOICES = {
  "recid.method": ("features",),
  "generator.item_embedding": ("rec_id",),
  "generator.encoder": ("sinusoidal", "none"),
}

# A setting that is set but has no effect: key -> (setting it needs, value).
USED_ONLY_WITH = {
  **{
    f"{stage}.optimizer.{name}": (f"{stage}.optimizer.name", rule)
    for stage in ("embed", "rqvae", "generator", "model")
    for name, rule in (("momentum", "sgd"), ("b2", "adamw"))
  },
  "model.layers": ("model.users", "graph"),
  "model.laplacian": ("model.users", "graph"),
  **{
    f"synthetic.{name}": ("data", "synthetic")
    for name in (
      "n_users",
      "n_items",
      "interactions_per_user",
      "n_tastes",
      "seed",
    )
  },
}


def check(config: Config) -> None:
  """Bad or ineffective values, before anything starts.

  Raises:
    UserError: naming the setting and what it may be.
  """
  _check_blocks(config)
  values = dict(flatten(config))
  defaults = dict(flatten(default_like(config)))
  for key in values:
    if key not in defaults:
      raise UserError(unknown_key(key, default_like(config)))
  _check_words(config, values)
  for key, (needs, wanted) in USED_ONLY_WITH.items():
    changed = key in values and values[key] != defaults[key]
    if changed and not has_effect(key, values):
      raise UserError(
        f"config.{key} is set but has no effect unless config.{needs} is"
        f" {wanted!r}; drop it or set that."
      )
  _check_ranges(values)
  _check_model(config)
  _check_evaluation(config)


def has_effect(key: str, values: Mapping[str, Any]) -> bool:
  """Is a setting used with these values of all settings?

  Where there is no such setting as it may need, it is.
  """
  if key not in USED_ONLY_WITH:
    return True
  needs, wanted = USED_ONLY_WITH[key]
  return needs not in values or values[needs] == wanted


def _check_words(config: Config, values: dict) -> None:
  for key, choices in _choices(config).items():
    if key in values and values[key] not in choices:
      near = difflib.get_close_matches(str(values[key]), choices, 1, 0.0)[0]
      raise UserError(
        f"config.{key} = {values[key]!r}: did you mean {near!r}? It is one of"
        f" {', '.join(choices)}."
      )


def _check_ranges(values: dict) -> None:
  may_be_zero = ("seed", "l2", "weight_decay", "momentum", "shrink")
  for key, value in values.items():
    name = key.rsplit(".", 1)[-1]
    if isinstance(value, bool) or not isinstance(value, int | float):
      continue
    is_share = name.endswith("dropout") or name == "warmup"
    # Of two things: none to all.
    is_mix = name in ("id_share", "original", "share")
    may_be_zero_too = is_share or is_mix or name in may_be_zero
    low_enough = value >= 0 if may_be_zero_too else value > 0
    if key.startswith("recid.min_"):
      low_enough = True  # a floor may be anything; R^2 can be negative
    too_high = (is_share and value >= 1) or (is_mix and value > 1)
    if not low_enough or too_high or not math.isfinite(value):
      raise UserError(f"config.{key} = {value} is out of range.")
    if name == "seed" and value >= 2**31:
      raise UserError(f"config.{key} = {value}: the largest is {2**31 - 1}.")


def _check_model(config: Config) -> None:
  fan_out = config.embed.fan_out if "embed" in config else ()
  if fan_out and (
    len(fan_out) != config.embed.layers
    or not all(isinstance(n, int) and n > 0 for n in fan_out)
  ):
    raise UserError(
      f"config.embed.fan_out = {fan_out!r}: it needs a number of neighbours for"
      f" each of the {config.embed.layers} layers, such as"
      f" {(10,) * config.embed.layers!r}; or () for all neighbours."
    )
  has_gat = "model" in config and model_name(config) == "gat"
  if has_gat and config.model.hidden % config.model.heads:
    raise UserError(
      f"config.model.heads = {config.model.heads}: it must divide"
      f" config.model.hidden, {config.model.hidden}."
    )
  if config.system == "tiger" and (
    config.generator.user_token or config.generator.soft_targets.share
  ):
    raise UserError(
      "config.generator.user_token and soft_targets need vectors of users and"
      " items, which tiger has not."
    )
  powers = config.get("norm_powers", (0.0,))
  if not powers or not all(0 <= power <= 1 for power in powers):
    raise UserError(
      f"config.norm_powers = {powers!r}: it needs numbers from 0 (h_item as it"
      " is) to 1 (its direction alone)."
    )
  if "model" in config and not config.model.get("train_tables", True):
    decay = config.model.optimizer.weight_decay
    if decay:
      raise UserError(
        f"config.model.optimizer.weight_decay = {decay}: it would change the"
        " tables that config.model.train_tables=False leaves as they are."
      )
  if config.system == "ease" and config.model.l2 == 0:
    raise UserError("config.model.l2 = 0: ease has no solution without it.")


def _check_evaluation(config: Config) -> None:
  chosen = config.evaluation
  if not chosen.cutoffs or not all(
    isinstance(k, int) and k >= 1 for k in chosen.cutoffs
  ):
    raise UserError(
      f"config.evaluation.cutoffs = {chosen.cutoffs!r}: it needs whole numbers"
      " of 1 or more."
    )
  if 10 not in chosen.cutoffs:
    raise UserError("config.evaluation.cutoffs must hold 10, the headline.")
  if chosen.splits not in (("valid",), ("valid", "test")):
    raise UserError(
      f"config.evaluation.splits = {chosen.splits!r}: it is"
      " ('valid', 'test') or ('valid',)."
    )
  if "rescore" in chosen:
    scores = chosen.rescore.scores
    if not set(scores) <= {*SCORES} or len(set(scores)) < len(scores):
      raise UserError(
        f"config.evaluation.rescore.scores = {scores!r}: it holds some of"
        f" {', '.join(SCORES)}, or nothing."
      )
    if "ease" in scores and chosen.rescore.ease.l2 == 0:
      raise UserError(
        "config.evaluation.rescore.ease.l2 = 0: it needs to be more."
      )
  if "generator" not in config:
    return
  if chosen.beam_width < max(chosen.cutoffs):
    raise UserError(
      "config.evaluation.beam_width must be at least the largest of"
      f" config.evaluation.cutoffs, {max(chosen.cutoffs)}."
    )
  if chosen.valid_beam_width < 10:
    raise UserError(
      f"config.evaluation.valid_beam_width = {chosen.valid_beam_width}: epochs"
      " are compared by Recall@10, which needs at least 10."
    )


def _check_blocks(config: Config) -> None:
  """The blocks of settings are those of the system and of its embedding."""
  embedding = config.get("embedding", "gcn")
  known = config.system in ("mmgrec", *SYSTEMS) and embedding in EMBEDDINGS
  blocks = lambda c: (set(c), set(c.get("model", ())))
  if not known or blocks(config) != blocks(default_like(config)):
    raise UserError(
      f"config.system = {config.system!r}, config.embedding = {embedding!r}:"
      f" choose these after the colon, as in --config=FILE:{SYSTEMS[0]} or"
      f" --config=FILE:embedding={EMBEDDINGS[0]}."
    )


def _choices(config: Config) -> dict[str, tuple[str, ...]]:
  """Settings that are one of a few words."""
  if config.system == "tiger":
    return CHOICES | TIGER_CHOICES
  own = {
    "loss": baselines.LOSSES,
    **baselines.CHOICES.get(model_name(config), {}),
  }
  return CHOICES | {f"model.{key}": words for key, words in own.items()}
