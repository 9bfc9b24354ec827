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
  "graphsage": {
    "l2": 1e-2,
    "item_input": "id",  # features, or both
    "hidden": 64,  # of what goes in and of the first layer
    "dropout": 0.0,  # between the layers
    "output_dropout": 0.0,
  },
  "ngcf": {
    "l2": 1e-3,
    "layers": 3,
    "laplacian": "symmetric",  # the paper's; row: the public code's
    "activation": "sum",  # the paper's; terms: the public code's
    "dropout": 0.1,  # of a layer's output
  },
  "gat": {
    "l2": 1e-2,
    "hidden": 64,  # of what goes in and of the first layer
    "heads": 1,  # of the first layer
    "dropout": 0.0,  # between the layers
  },
}

# Settings that are one of a few words, by model.
CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
  "graphsage": {"item_input": ("id", "features", "both")},
  "ngcf": {
    "laplacian": ("symmetric", "row"),
    "activation": ("sum", "terms"),
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
