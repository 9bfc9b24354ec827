"""Every setting, its default, and the checks on what a person sets."""

import difflib
import json
from collections.abc import Iterator
from typing import Any

import ml_collections

from mmgrec_jax.errors import UserError
from mmgrec_jax.models import settings as baselines

ConfigDict = ml_collections.ConfigDict
# Beside mmgrec.
SYSTEMS = (*baselines.ITEM_ITEM, *baselines.MODELS, "tiger")
# What gives MMGRec its h_u and h_i: the paper's GCN, or a baseline.
EMBEDDINGS = ("gcn", *baselines.MODELS)
# A ConfigDict whose attributes a type checker lets pass.
Config = Any

CHOICES = {
  "feature_norm": ("zscore_l2", "none"),
  "dtype": ("float32", "bfloat16"),
  "graph": ("auto", "ell", "segment"),
  "embed.optimizer.name": ("adamw", "sgd"),
  "embed.optimizer.schedule": ("cosine", "constant"),
  "rqvae.optimizer.name": ("adamw", "sgd"),
  "rqvae.optimizer.schedule": ("cosine", "constant"),
  "rqvae.codebook_start": ("kmeans", "uniform"),
  "generator.optimizer.name": ("adamw", "sgd"),
  "generator.optimizer.schedule": ("cosine", "constant"),
  "generator.encoder": ("relation", "sinusoidal", "none"),
  "generator.item_embedding": ("pretrained", "finetuned", "learned", "rec_id"),
  "generator.history_order": ("random", "time"),
  "generator.trie": ("packed", "dense"),
  "recid.method": ("graph_rqvae", "features", "hkmeans"),
  "recid.last_token": ("popularity", "random"),
  "model.optimizer.name": ("adamw", "sgd"),
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
  "recid.branching": ("recid.method", "hkmeans"),
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


def optimizer_defaults(**changes) -> Config:
  return ConfigDict(
    {
      "name": "adamw",  # or sgd, the paper's
      "learning_rate": 1e-3,
      "schedule": "cosine",  # or constant, both after the warm-up
      "warmup": 0.05,  # share of all steps
      "weight_decay": 0.0,  # decoupled with adamw, L2 with sgd
      "clip": 1.0,  # largest global norm of a gradient
      "momentum": 0.0,  # sgd only
      "b2": 0.999,  # adamw only
      **changes,
    }
  )


def default_config(system: str = "mmgrec", embedding: str = "gcn") -> Config:
  """The tuned defaults; config files change what their data set needs.

  Args:
    system: mmgrec, or one of `SYSTEMS`: a baseline has `config.model` in place
      of MMGRec's stages, tiger has the stages but the GCN.
    embedding: one of `EMBEDDINGS`, for mmgrec: a baseline's `config.model`
      takes the place of `config.embed`.
  """
  config = _shared_defaults()
  config.system = system
  if system in ("mmgrec", "tiger"):
    _add_stages(config)
  if system == "tiger":
    config.update(TIGER)
    return config
  if system == "mmgrec":
    config.embedding = embedding
    config.evaluation.rescore = RESCORE
  model = embedding if system == "mmgrec" else system
  if model == "gcn":
    _add_gcn(config)
  elif model in baselines.ITEM_ITEM:
    for trained_only in ("width", "feature_norm", "graph", "train"):
      del config[trained_only]
    config.model = ConfigDict(baselines.ITEM_ITEM[model])
  else:
    _add_model(config, model)
  if system == "mmgrec" and model in EMBEDDING_SETTINGS:
    config.model.update(EMBEDDING_SETTINGS[model])
  return config


def _default_like(config: Config) -> Config:
  """Defaults of the same system on the same embedding."""
  return default_config(config.system, config.get("embedding", "gcn"))


def model_name(config: Config) -> str:
  """What `config.model`, where there is one, describes."""
  return config.embedding if config.system == "mmgrec" else config.system


def _shared_defaults() -> Config:
  """What every system has; one without training has no use for some."""
  config: Config = ConfigDict()
  config.name = "mmgrec"  # of the default workdir, runs/<name>
  config.data = ""  # data set folder, or 'synthetic'
  config.published = ""  # where the data is published, for the error message
  config.seed = 0  # of everything random but the split
  config.width = 64  # D
  config.feature_norm = "zscore_l2"  # or none
  config.model_shards = 1  # devices that share one copy of all tables
  config.graph = "auto"  # ell on a CPU, segment (jraph) elsewhere

  config.synthetic = ConfigDict()  # used when data is 'synthetic'
  config.synthetic.n_users = 600
  config.synthetic.n_items = 400
  config.synthetic.interactions_per_user = 30
  config.synthetic.n_tastes = 8
  config.synthetic.seed = 0

  config.evaluation = ConfigDict()
  config.evaluation.cutoffs = (5, 10, 20, 50)  # K of Recall@K and NDCG@K
  config.evaluation.batch_size = 128  # users a device handles at a time
  config.evaluation.splits = ("valid", "test")  # or ("valid",): no look at test

  config.train = ConfigDict()
  config.train.steps_per_call = 1000  # compiled into one call at most
  config.train.checkpoint_seconds = 60.0
  return config


def _add_stages(config: Config) -> None:
  """MMGRec's own."""
  config.dtype = "float32"  # of the generator's compute; parameters stay f32
  config.evaluation.beam_width = 100  # of the final evaluation
  config.evaluation.valid_beam_width = 20  # between epochs

  config.rqvae = ConfigDict()  # eq. 6-9, L_rqvae of eq. 10
  config.rqvae.hidden = 64
  config.rqvae.latent = 32
  config.rqvae.levels = 3  # M - 1
  config.rqvae.codebook_size = 128  # L
  config.rqvae.beta = 0.25
  config.rqvae.codebook_start = "kmeans"  # or uniform
  config.rqvae.batch_size = 2048  # items
  config.rqvae.steps_per_epoch = 100
  config.rqvae.epochs = 30  # at most, after the GCN is done
  config.rqvae.patience = 20  # epochs without a better reconstruction
  config.rqvae.eval_every = 1
  config.rqvae.optimizer = optimizer_defaults()

  config.recid = ConfigDict()
  config.recid.method = "graph_rqvae"  # features (ID w/o) or hkmeans
  config.recid.branching = 16  # hkmeans: clusters a split
  config.recid.last_token = "popularity"  # or random
  config.recid.min_r2 = 0.3  # floors of the health check
  config.recid.min_usage = 0.3
  config.recid.ignore_health = False  # go on below the floors

  config.generator = ConfigDict()  # eq. 13-19
  config.generator.encoder = "relation"  # sinusoidal or none (Table 5)
  config.generator.item_embedding = "pretrained"  # finetuned, learned, rec_id
  config.generator.user_token = False  # the mean of all the user's items, too
  config.generator.history_order = "random"  # or time: the newest first
  config.generator.trie_softmax = True  # softmax over valid children only
  config.generator.trie = "packed"  # one bit a token, or dense: a table
  config.generator.encoder_layers = 1
  config.generator.decoder_layers = 1
  config.generator.heads = 2
  config.generator.encoder_head_width = 64  # of each head, as in the paper
  config.generator.decoder_head_width = 32  # of each head: width / heads
  config.generator.feed_forward = 128
  config.generator.dropout = 0.0
  config.generator.folded = True  # attention's fast form, see nn/attention.py
  config.generator.history_length = 32  # N
  config.generator.targets_per_history = 8  # T; 1 is the paper's
  config.generator.batch_size = 32  # histories
  config.generator.epochs = 30
  config.generator.patience = 20  # epochs without a better Recall@10
  config.generator.eval_every = 2
  config.generator.optimizer = optimizer_defaults(learning_rate=2e-3)
  config.generator.soft_targets = ConfigDict()  # the vectors as a teacher
  config.generator.soft_targets.share = 0.7  # of the loss
  config.generator.soft_targets.sharpness = 2.0  # of its softmax over items


def _add_gcn(config: Config) -> None:
  """The paper's embedding stage."""
  config.embed = ConfigDict()  # the GCN of eq. 4-5, L_bpr of eq. 10
  config.embed.layers = 2
  config.embed.fan_out = ()  # neighbours read a hop, the batch's first; () all
  config.embed.dropout = 0.0  # between layers
  config.embed.last_activation = False  # LeakyReLU after the last layer too
  config.embed.negatives = 1  # unseen items for each interaction
  config.embed.l2 = 1e-2  # on the vectors of the batch
  config.embed.batch_size = 4096  # interactions
  config.embed.epochs = 40
  config.embed.patience = 20  # epochs without a better validation Recall@10
  config.embed.eval_every = 1
  config.embed.optimizer = optimizer_defaults(learning_rate=3e-3)


def _add_model(config: Config, name: str) -> None:
  """A baseline, on its own or as MMGRec's embedding stage."""
  model = baselines.of_model(name)
  optimizer = optimizer_defaults(**model.pop("optimizer"))
  config.model = ConfigDict({**model, "optimizer": optimizer})


# Of the tuned MMGRec, and how it trains these vectors.
EMBEDDING = "lattice"
EMBEDDING_SETTINGS = {
  "lattice": {
    "loss": "softmax",
    "negatives": 64,
    "l2": 0.1,
    "optimizer": {"learning_rate": 2e-3},
  }
}
# Weights of h_u . h_i in the order of the beams, tried on validation.
RESCORE = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)

# TIGER (Rajput et al. 2023) in MMGRec's stages: Rec-IDs of the features alone,
# in and out; the history is a sequence.
TIGER = {
  "recid": {"method": "features", "last_token": "random"},
  "generator": {
    "encoder": "sinusoidal",
    "item_embedding": "rec_id",
    "history_order": "time",
    "soft_targets": {"share": 0.0},
    "dropout": 0.1,
    "batch_size": 128,
    "optimizer": {"learning_rate": 3e-3},
  },
}

# The paper's settings (§4.3): SGD, learning rate 1e-3, L2 1e-5, one target for
# each history, softmax over the whole vocabulary.
_PAPER_SGD = {
  "name": "sgd",
  "learning_rate": 1e-3,
  "weight_decay": 1e-5,
  "schedule": "constant",
}
PAPER = {
  "evaluation": {"rescore": ()},
  "embed": {
    "batch_size": 3000,
    "l2": 0.0,
    "last_activation": True,
    "epochs": 1000,
    "optimizer": _PAPER_SGD,
  },
  "rqvae": {"batch_size": 3000, "epochs": 1000, "optimizer": _PAPER_SGD},
  "generator": {
    "batch_size": 3000,
    "targets_per_history": 1,
    "soft_targets": {"share": 0.0},
    "trie_softmax": False,
    "dropout": 0.1,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "heads": 4,
    "decoder_head_width": 64,
    "feed_forward": 256,
    "epochs": 1000,
    "eval_every": 1,
    "optimizer": _PAPER_SGD,
  },
}


def from_preset(overrides: dict, preset: str) -> Config:
  """The config of a file and what follows its colon.

  Args:
    overrides: the file's own choices, nested as the settings are; under
      `models`, those of `config.model` by baseline, and TIGER's by stage.
    preset: '' for the tuned defaults, 'paper' for the paper's settings, one
      of `SYSTEMS`, or 'embedding=' and one of `EMBEDDINGS`.
  """
  overrides = dict(overrides)
  of_models = overrides.pop("models", {})
  system, embedding = chosen(preset, overrides.pop("embedding", EMBEDDING))
  config = default_config(system, embedding)
  # What speaks of stages that the system has not does not concern it.
  sources = [
    {
      key: value
      for key, value in overrides.items()
      if key in config or key not in default_config()
    }
  ]
  if system == "tiger":
    sources.append(of_models.get("tiger", {}))
  elif "model" in config:
    own = of_models.get(embedding if system == "mmgrec" else system, {})
    sources.append({"model": own})
  if preset == "paper":
    sources.append(PAPER)
  for source in sources:
    for key, value in flatten(source):
      set_value(config, key, value)
  if preset:
    config.name = f"{config.name}-{preset.replace('=', '-')}"
  return config


def chosen(preset: str, embedding: str = EMBEDDING) -> tuple[str, str]:
  """The system and, for mmgrec, its embedding, which may have a default.

  Raises:
    UserError: the preset names nothing.
  """
  if preset == "paper":
    return "mmgrec", "gcn"
  if preset in SYSTEMS:
    return preset, "gcn"
  word, _, name = preset.partition("=")
  if word == "embedding" and name not in EMBEDDINGS:
    near = difflib.get_close_matches(name, EMBEDDINGS, 1, 0.0)[0]
    raise UserError(
      f"embedding={name}: did you mean {near!r}? It is one of"
      f" {', '.join(EMBEDDINGS)}."
    )
  if preset and word != "embedding":
    known = ("paper", *SYSTEMS)
    near = difflib.get_close_matches(preset, known, 1, 0.0)[0]
    raise UserError(
      f"Nothing is called {preset!r} after the colon; did you mean {near!r}?"
      " There are paper (MMGRec's own settings), embedding=NAME (MMGRec on"
      f" another model's vectors) and {', '.join(SYSTEMS)}."
    )
  return "mmgrec", name or embedding


def flatten(tree, prefix: str = "") -> Iterator[tuple[str, object]]:
  """(dotted key, value) of every setting."""
  for name, value in tree.items():
    if isinstance(value, dict | ConfigDict):
      yield from flatten(value, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}", value


def set_value(config: Config, key: str, value: object) -> None:
  """Sets `a.b.c`, keeping the default's type.

  Raises:
    UserError: no such setting (names the nearest), or another type.
  """
  known = dict(flatten(_default_like(config)))
  if key not in known:
    raise UserError(unknown_key(key, config))
  default = known[key]
  if isinstance(default, float) and isinstance(value, int):
    value = float(value)
  if isinstance(default, tuple) and isinstance(value, list):
    value = tuple(value)
  if type(value) is not type(default):
    raise UserError(
      f"config.{key} = {value!r}: it must be of type"
      f" {type(default).__name__}, like {default!r}."
    )
  *path, last = key.split(".")
  for name in path:
    config = config[name]
  config[last] = value


def unknown_key(key: str, config: Config) -> str:
  """The message for a setting that `config` has not."""
  known = [k for k, _ in flatten(config)]
  by_name = [k for k in known if k.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
  near = difflib.get_close_matches(key, by_name or known, 1, 0.0)[0]
  return f"config.{key} is no setting; did you mean config.{near}?"


def check(config: Config) -> None:
  """Bad or ineffective values, before anything starts.

  Raises:
    UserError: naming the setting and what it may be.
  """
  _check_blocks(config)
  values = dict(flatten(config))
  defaults = dict(flatten(_default_like(config)))
  for key in values:
    if key not in defaults:
      raise UserError(unknown_key(key, _default_like(config)))
  for key, choices in _choices(config).items():
    if key in values and values[key] not in choices:
      near = difflib.get_close_matches(str(values[key]), choices, 1, 0.0)[0]
      raise UserError(
        f"config.{key} = {values[key]!r}: did you mean {near!r}? It is one of"
        f" {', '.join(choices)}."
      )
  for key, (needs, wanted) in USED_ONLY_WITH.items():
    if (
      key in values and values[key] != defaults[key] and values[needs] != wanted
    ):
      raise UserError(
        f"config.{key} is set but has no effect unless config.{needs} is"
        f" {wanted!r}; drop it or set that."
      )
  may_be_zero = ("seed", "l2", "weight_decay", "momentum", "shrink")
  for key, value in values.items():
    name = key.rsplit(".", 1)[-1]
    if isinstance(value, bool) or not isinstance(value, int | float):
      continue
    is_share = name.endswith("dropout") or name in ("warmup", "share")
    low_enough = value >= 0 if is_share or name in may_be_zero else value > 0
    if key.startswith("recid.min_"):
      low_enough = True  # a floor may be anything; R^2 can be negative
    if not low_enough or (is_share and value >= 1):
      raise UserError(f"config.{key} = {value} is out of range.")
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
  if config.system == "gat" and config.model.hidden % config.model.heads:
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
  if config.system == "ease" and config.model.l2 == 0:
    raise UserError("config.model.l2 = 0: ease has no solution without it.")
  if not config.evaluation.cutoffs or min(config.evaluation.cutoffs) < 1:
    raise UserError("config.evaluation.cutoffs needs numbers of 1 or more.")
  if 10 not in config.evaluation.cutoffs:
    raise UserError("config.evaluation.cutoffs must hold 10, the headline.")
  if config.evaluation.splits not in (("valid",), ("valid", "test")):
    raise UserError(
      f"config.evaluation.splits = {config.evaluation.splits!r}: it is"
      " ('valid', 'test') or ('valid',)."
    )
  if "generator" in config and (
    config.evaluation.beam_width < max(config.evaluation.cutoffs)
  ):
    raise UserError(
      "config.evaluation.beam_width must be at least the largest of"
      f" config.evaluation.cutoffs, {max(config.evaluation.cutoffs)}."
    )


def _check_blocks(config: Config) -> None:
  """The blocks of settings are those of the system and of its embedding."""
  embedding = config.get("embedding", "gcn")
  known = config.system in ("mmgrec", *SYSTEMS) and embedding in EMBEDDINGS
  blocks = lambda c: (set(c), set(c.get("model", ())))
  if not known or blocks(config) != blocks(_default_like(config)):
    raise UserError(
      f"config.system = {config.system!r}, config.embedding = {embedding!r}:"
      f" choose these after the colon, as in --config=FILE:{SYSTEMS[0]} or"
      f" --config=FILE:embedding={SYSTEMS[0]}."
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


def to_json(config: Config) -> str:
  """Stable text form, for config.json."""
  return json.dumps(config.to_dict(), indent=1, sort_keys=True)


def differences(old: dict, new: dict) -> list[str]:
  """One line for each setting that is not the same.

  But for `model_shards`: a run may go on on other devices.
  """
  a, b = dict(flatten(old)), dict(flatten(new))
  as_text = lambda tree, key: json.dumps(tree.get(key))
  return [
    f"config.{key}: {as_text(a, key)} there, {as_text(b, key)} now"
    for key in sorted(a | b)
    if key != "model_shards" and as_text(a, key) != as_text(b, key)
  ]
