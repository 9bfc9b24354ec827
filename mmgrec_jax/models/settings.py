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
  "lattice": {
    "layers": 2,
    "item_layers": 1,
    "neighbours": 10,  # of an item, in the graph of each modality
    "original": 0.9,  # share of the graphs of the features as they are
    "laplacian": "symmetric",  # or the public code's row_self_loops
    "trainable_features": False,  # True in the public code
    "l2": 3e-3,
  },
  "lightgt": {
    "layers": 2,  # of LightGCN and of the encoders
    "history_length": 20,
    "id_share": 0.5,  # of the score; 0.05 in the public code
    "dropout": 0.1,  # of attention
    "temperature": 1.0,  # 100 in the public code
    "target_in_history": False,  # True in the public code
    "l2": 1e-2,  # on the mean square of LightGCN's vectors
  },
}

# Settings that are one of a few words, by model.
CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
  "lattice": {"laplacian": ("symmetric", "row_self_loops")},
}


def of_model(name: str) -> dict:
  """Defaults of `config.model` for a baseline."""
  own = MODELS[name]
  optimizer = {**TRAINING["optimizer"], **own.get("optimizer", {})}
  return {**TRAINING, **own, "optimizer": optimizer}


def own_settings(name: str, settings) -> dict:
  """Those that are fields of the model itself."""
  return {key: settings[key] for key in MODELS[name] if key not in TRAINING}
