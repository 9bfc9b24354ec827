"""What a finished run of a generator left of its evaluation."""

import json
from typing import Any, NamedTuple

import numpy as np

from mmgrec_jax.config import Config
from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.errors import UserError
from mmgrec_jax.serving.trained import Trained


class Finished(NamedTuple):
  """per_user: what per_user.npz holds of the last split, without its name."""

  config: Config
  data: Dataset
  split: str
  results: dict[str, Any]
  per_user: dict[str, np.ndarray]

  @property
  def users(self) -> np.ndarray:
    return self.per_user["users"]

  @property
  def lists(self) -> dict[str, np.ndarray]:
    """Recommended items [N, K] of every system."""
    return {
      name.removesuffix("/items"): items
      for name, items in self.per_user.items()
      if name.endswith("/items")
    }


def read_finished(run: Trained) -> Finished:
  """What its evaluation left in the workdir.

  Raises:
    UserError: it is not the run of a generator.
  """
  folder = run.folder
  if "generator" not in run.config:
    raise UserError(
      f"{folder}: {run.config.system} has no generator to look into."
    )
  results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
  split = run.config.evaluation.splits[-1]
  with np.load(folder / "per_user.npz", allow_pickle=False) as saved:
    per_user = {
      name.removeprefix(f"{split}/"): saved[name]
      for name in saved
      if name.startswith(f"{split}/")
    }
  return Finished(run.config, run.data, split, results, per_user)
