"""Default settings of every baseline: what `config.model` holds for it.

No JAX here: configs are read before it may start.
"""

# How all of them are trained, unless their own entry says otherwise.
TRAINING = {
  "l2": 1e-4,  # on half the squared norm of a triple's rows
  "negatives": 1,  # unseen items for each interaction
  "batch_size": 2048,  # interactions
  "epochs": 200,
  "patience": 20,  # epochs without a better validation Recall@10
  "eval_every": 2,
  "optimizer": {
    "learning_rate": 5e-3,
    "schedule": "constant",
    "warmup": 0.0,
    "clip": 100.0,
  },
}

# What only that model has, and where it differs from TRAINING.
MODELS = {
  "mf": {},
  "lightgcn": {"layers": 3},
  "vbpr": {"content_width": 64, "l2": 1e-2},
  "mmgcn": {
    "layers": 3,
    "latent": 64,  # wider modalities are first mapped to this many
    "train_tables": True,  # False: the public code's
    "l2": 1e-3,
  },
  "grcn": {
    "layers": 2,
    "routing": 3,  # rounds
    "routing_target": "user",  # or item, the public code's
    "pruning": "hard",  # or soft
    "l2": 1e-3,
  },
}

# Settings that are one of a few words, by model.
CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
  "grcn": {
    "routing_target": ("user", "item"),
    "pruning": ("hard", "soft"),
  },
}


def of_model(name: str) -> dict:
  """Defaults of `config.model` for a baseline."""
  own = MODELS[name]
  optimizer = {**TRAINING["optimizer"], **own.get("optimizer", {})}
  return {**TRAINING, **own, "optimizer": optimizer}


def own_settings(name: str, settings) -> dict:
  """Those that are fields of the model itself."""
  return {key: settings[key] for key in MODELS[name] if key not in TRAINING}
