"""Default settings of every baseline: what `config.model` holds for it.

No JAX here: configs are read before it may start.
"""

# How all of them are trained, unless their own entry says otherwise: what
# validation chose of six on lfm2k or ml100k, see experiments/RECIPE.md. Their
# papers have a loss of bpr with one negative.
TRAINING = {
  "loss": "softmax",  # over the item and its negatives; or bpr
  "negatives": 64,  # unseen items for each interaction
  "l2": 0.1,  # on half the squared norm of a triple's rows
  "batch_size": 2048,  # interactions
  "epochs": 200,
  "patience": 20,  # epochs without a better validation Recall@10
  "eval_every": 2,
  "optimizer": {
    "learning_rate": 2e-3,
    "schedule": "constant",
    "warmup": 0.0,
    "clip": 100.0,
  },
}

# What only that model has, and where it differs from TRAINING.
MODELS = {
  "mf": {},
  "graphsage": {
    "item_input": "id",  # features, or both
    "hidden": 64,  # of what goes in and of the first layer
    "dropout": 0.0,  # between the layers
    "output_dropout": 0.0,
  },
  "ngcf": {
    "layers": 3,
    "laplacian": "symmetric",  # the paper's; row: the public code's
    "activation": "sum",  # the paper's; terms: the public code's
    "dropout": 0.1,  # of a layer's output
  },
  "gat": {
    "hidden": 64,  # of what goes in and of the first layer
    "heads": 1,  # of the first layer
    "dropout": 0.0,  # between the layers
    "optimizer": {"learning_rate": 5e-3},
  },
  "lightgcn": {
    "layers": 3,
    "l2": 1e-2,
    "optimizer": {"learning_rate": 5e-3},
  },
  "vbpr": {"content_width": 64},
  "mmgcn": {
    "layers": 3,
    "latent": 64,  # wider modalities are first mapped to this many
    "train_tables": True,  # False: the public code's
    "l2": 1e-2,
  },
  "grcn": {
    "layers": 2,
    "routing": 3,  # rounds
    "routing_target": "user",  # or item, the public code's
    "pruning": "hard",  # or soft
    "l2": 1e-3,
    "optimizer": {"learning_rate": 5e-3},
  },
  "lattice": {
    "layers": 2,
    "item_layers": 1,
    "neighbours": 10,  # of an item, in the graph of each modality
    "original": 0.9,  # share of the graphs of the features as they are
    "laplacian": "symmetric",  # or the public code's row_self_loops
    "trainable_features": False,  # True in the public code
    "users": "graph",  # LightGCN's; history: SVD++'s
  },
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
  "lightgt": {
    "layers": 2,  # of LightGCN and of the encoders
    "heads": 1,  # of the encoders, each as wide as a vector
    "history_length": 20,
    "id_share": 0.5,  # of the score; 0.05 in the public code
    "dropout": 0.1,  # of attention
    "temperature": 1.0,  # 100 in the public code
    "target_in_history": False,  # True in the public code
    "l2": 3e-2,  # on the mean square of LightGCN's vectors
    "optimizer": {"learning_rate": 2e-2, "weight_decay": 0.3},
  },
}

# Systems that are a matrix of items by items (models/item_item.py).
ITEM_ITEM = {
  "itemknn": {"neighbours": 100, "shrink": 0.0},
  "ease": {"l2": 100.0, "max_gib": 8.0},  # max_gib: of memory it may take
}

# Settings that are one of a few words, by model.
LOSSES = ("bpr", "softmax")
CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
  "grcn": {
    "routing_target": ("user", "item"),
    "pruning": ("hard", "soft"),
  },
  "lattice": {
    "laplacian": ("symmetric", "row_self_loops"),
    "users": ("graph", "history"),
  },
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
  settings = {**TRAINING, **own, "optimizer": optimizer}
  if name == "invrl":
    del settings["loss"]  # it has one of its own
  return settings


def own_settings(name: str, settings) -> dict:
  """Those that are fields of the model itself; blocks are for its training."""
  return {
    key: settings[key]
    for key, default in MODELS[name].items()
    if key not in TRAINING and not isinstance(default, dict)
  }
