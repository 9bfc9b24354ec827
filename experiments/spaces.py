"""What a sweep may try: spaces of settings, and trials taken from them.

A space is KEY -> values: a list, `1e-4,1e-3`, or a range, `log:1e-5:1e-1` (even
in the logarithm) or `uniform:0:0.5`. A trial is KEY -> value, all as text.
"""

import itertools
import math
import random
from collections.abc import Mapping

from mmgrec_jax.errors import UserError

_OPTIMIZER = {
  "model.optimizer.learning_rate": "log:1e-3:3e-2",
  "model.l2": "log:1e-5:1",
}
# With the loss that MMGRec's vectors are trained with among them.
_TRAINING = {
  **_OPTIMIZER,
  "model.loss": "bpr,softmax",
  "model.negatives": "1,16,64",
}
_GENERATOR = {
  "rqvae.codebook_size": "64,128,256",
  "generator.optimizer.learning_rate": "log:3e-4:1e-2",
  "generator.dropout": "uniform:0:0.3",
}

# What is worth tuning, by system. Each has a range, so any number of trials.
SPACES: dict[str, dict[str, str]] = {
  "itemknn": {
    "model.neighbours": "50,100,200,400",
    "model.shrink": "uniform:0:100",
  },
  "ease": {"model.l2": "log:1:1e4"},
  "mf": _TRAINING,
  "graphsage": {
    **_TRAINING,
    "model.item_input": "id,features,both",
    "model.dropout": "uniform:0:0.3",
  },
  "ngcf": {
    **_TRAINING,
    "model.layers": "1,2,3",
    "model.dropout": "uniform:0:0.3",
  },
  "gat": {
    **_TRAINING,
    "model.heads": "1,2,4",
    "model.dropout": "uniform:0:0.3",
  },
  "lightgcn": {**_TRAINING, "model.layers": "1,2,3,4"},
  "vbpr": {**_TRAINING, "model.content_width": "32,64,128"},
  "mmgcn": {**_TRAINING, "model.layers": "1,2,3"},
  "grcn": {
    **_TRAINING,
    "model.layers": "1,2,3",
    "model.routing": "1,2,3",
    "model.pruning": "hard,soft",
  },
  "lattice": {
    **_TRAINING,
    "model.layers": "1,2,3",
    "model.neighbours": "5,10,20",
    "model.original": "0.5,0.7,0.9",
  },
  "invrl": {
    **_OPTIMIZER,
    "model.l2": "log:1e-6:1e-3",
    "model.negatives": "5,10,20",
    "model.mask.alpha": "log:0.1:10",
  },
  "lightgt": {
    **_TRAINING,
    "model.optimizer.learning_rate": "log:1e-3:1e-1",
    "model.optimizer.weight_decay": "0,0.3",
    "model.layers": "1,2,3",
    "model.id_share": "uniform:0.05:0.95",
    "model.history_length": "10,20,40",
  },
  "tiger": _GENERATOR,
  "mmgrec": {
    **_GENERATOR,
    "model.optimizer.learning_rate": "log:5e-4:1e-2",
    "model.l2": "log:1e-3:1",
    "model.users": "graph,history",
    "generator.soft_targets.share": "0,0.4,0.7,0.9",
    "generator.soft_targets.sharpness": "uniform:1:5",
  },
}


def is_range(values: str) -> bool:
  return values.partition(":")[0] in ("log", "uniform")


def ends(values: str) -> tuple[float, float]:
  """Of a range.

  Raises:
    UserError: it is not KIND:LOW:HIGH.
  """
  try:
    kind, low, high = values.split(":")
    low, high = float(low), float(high)
  except ValueError as error:
    raise UserError(
      f"{values}: a range is log:LOW:HIGH or uniform:LOW:HIGH."
    ) from error
  if not low < high or (kind == "log" and low <= 0):
    raise UserError(f"{values}: LOW must be below HIGH, and above 0 with log.")
  return low, high


def grid(space: Mapping[str, str]) -> list[dict[str, str]]:
  """All combinations of lists, the last setting changing fastest.

  Raises:
    UserError: there is a range.
  """
  for key, values in space.items():
    if is_range(values):
      raise UserError(f"{key}={values}: a range needs --trials=N.")
  lists = [dict.fromkeys(values.split(",")) for values in space.values()]
  return [
    dict(zip(space, chosen, strict=True))
    for chosen in itertools.product(*lists)
  ]


def draw(space: Mapping[str, str], trials: int, seed: int) -> list[dict]:
  """Random trials; with more of them, the first ones stay the same.

  Raises:
    UserError: the space is a grid with fewer combinations, or a bad range.
  """
  if trials < 1:
    raise UserError(f"--trials={trials}: at least 1.")
  rng = random.Random(seed)
  if any(map(is_range, space.values())):
    return [
      {key: _value(values, rng) for key, values in space.items()}
      for _ in range(trials)
    ]
  combinations = grid(space)
  if trials > len(combinations):
    raise UserError(
      f"--trials={trials}: there are only {len(combinations)} combinations."
    )
  rng.shuffle(combinations)
  return combinations[:trials]


def _value(values: str, rng: random.Random) -> str:
  if not is_range(values):
    return rng.choice(values.split(","))
  low, high = ends(values)
  if values.startswith("log"):
    chosen = math.exp(rng.uniform(math.log(low), math.log(high)))
  else:
    chosen = rng.uniform(low, high)
  return f"{chosen:.4g}"
