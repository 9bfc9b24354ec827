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
  "invrl": {
    "negatives": 20,
    "batch_size": 1024,
    "patience": 12,
    "optimizer": {"learning_rate": 3e-3},
    "l2": 1.6e-5,
    "l2_item": 2.0,  # of item vectors, times l2
    "l2_linear": 1000.0,  # of the map of the features, times l2
    "weights": {"w1": 1.0, "w2": 1.0, "w3": 1.0, "w4": 1.0},  # UltraGCN's
    "mask": {
      "environments": 4,
      "batch_size": 512,  # interactions, of each environment
      "rounds": 2,
      "passes": 2,  # over the environments, in each round
      "pass_epochs": 3,
      "epochs": 8,  # of the mask, in each round
      "learning_rate": 5e-3,
      "sigma": 0.01,  # of the gates' noise
      "alpha": 1.0,  # of the invariance penalty
      "lam": 0.1,  # of |mu|^2
      "growth": 1.05,  # of alpha and lam, by round
      "l1": 1e-2,  # of environments' maps on masked features
    },
  },
}

# Settings that are one of a few words, by model.
CHOICES: dict[str, dict[str, tuple[str, ...]]] = {}


def of_model(name: str) -> dict:
  """Defaults of `config.model` for a baseline."""
  own = MODELS[name]
  optimizer = {**TRAINING["optimizer"], **own.get("optimizer", {})}
  return {**TRAINING, **own, "optimizer": optimizer}


def own_settings(name: str, settings) -> dict:
  """Those that are fields of the model itself; blocks are for its training."""
  return {
    key: settings[key]
    for key, default in MODELS[name].items()
    if key not in TRAINING and not isinstance(default, dict)
  }
