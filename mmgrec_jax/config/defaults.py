"""Every setting and its default."""

from typing import Any

import ml_collections

from mmgrec_jax.models import settings as baselines

ConfigDict = ml_collections.ConfigDict
# Beside mmgrec.
SYSTEMS = (*baselines.ITEM_ITEM, *baselines.MODELS, "tiger")
# What gives MMGRec its h_u and h_i: the paper's GCN, or a baseline.
EMBEDDINGS = ("gcn", *baselines.MODELS)
# What may re-score MMGRec's beams: h_u . h_i, the features in two ways, EASE.
SCORES = ("embedding", "nearest", "profile", "ease")
# A ConfigDict whose attributes a type checker lets pass.
Config = Any


def optimizer_defaults(**changes) -> Config:
  return ConfigDict(
    {
      "name": "adamw",  # or muon, or sgd, the paper's
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
    config.norm_powers = (0.0, 0.25, 0.5)  # of h_item's norm, tried
    config.evaluation.rescore = ConfigDict()  # the order of the beams
    config.evaluation.rescore.scores = SCORES  # beside their own; () for none
    config.evaluation.rescore.neighbours = 10  # of an item, in each modality
    config.evaluation.rescore.width = 64  # principal components of profiles
    config.evaluation.rescore.ease = ConfigDict()
    config.evaluation.rescore.ease.l2 = 100.0
    config.evaluation.rescore.ease.max_gib = 1.0  # left out if it took more
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


def default_like(config: Config) -> Config:
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
  config.evaluation.batch_size = (
    128  # users a device handles at a time, at most
  )
  config.evaluation.exclude_validation = False  # from the test's candidates
  config.evaluation.splits = ("valid", "test")  # or ("valid",): no look at test

  config.train = ConfigDict()
  config.train.steps_per_call = 1000  # of one call at most
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
  config.recid.last_token = "popularity"  # or random
  config.recid.min_r2 = 0.3  # floors of the health check
  config.recid.min_usage = 0.3
  config.recid.ignore_health = False  # go on below the floors

  config.generator = ConfigDict()  # eq. 13-19
  config.generator.encoder = "relation"  # sinusoidal or none (Table 5)
  config.generator.item_embedding = "pretrained"  # finetuned, learned, rec_id
  config.generator.user_token = False  # the mean of all the user's items, too
  config.generator.history_order = "random"  # or time: newest first
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
  config.generator.skip_sure = True  # beams of one item need no model
  config.generator.history_length = 32  # N
  config.generator.targets_per_history = 8  # T; 1 is the paper's
  config.generator.batch_size = 32  # histories
  config.generator.epochs = 30
  config.generator.patience = 20  # epochs without a better Recall@10
  config.generator.eval_every = 2
  config.generator.optimizer = optimizer_defaults(learning_rate=2e-3)
  config.generator.soft_targets = ConfigDict()  # from the vectors
  config.generator.soft_targets.teacher = "vectors"  # or rescored: their mix
  config.generator.soft_targets.share = 0.7  # of the loss; 1: no item is hidden
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


# Of the tuned MMGRec, and what is different where a model's vectors are its.
EMBEDDING = "lattice"
EMBEDDING_SETTINGS = {"lattice": {"users": "history"}}
# TIGER (Rajput et al. 2023) in MMGRec's stages: Rec-IDs of the features alone,
# in and out, without a token for the user; the history is a sequence where the
# data has timestamps. Three tokens say little of features of a thousand columns
# and are as good an ID for that: R^2 stops nothing.
TIGER = {
  "recid": {"method": "features", "last_token": "random", "min_r2": 0.0},
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
