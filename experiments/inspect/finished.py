"""What a finished run of a generator left of its evaluation."""

from typing import Any, NamedTuple

import numpy as np

from mmgrec_jax.config import Config
from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.errors import UserError
from mmgrec_jax.serving.trained import Trained
from mmgrec_jax.stages.results import ranker_of, read_per_user, read_results
from mmgrec_jax.workdir import EXTENDED


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

  def ranker_of(self, ranker: Any) -> Any:
    """A ranker as the split wants it."""
    return ranker_of(self.config, self.data, self.split, ranker)

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
    UserError: it is not the run of a generator, or a file is damaged.
  """
  folder = run.folder
  if "generator" not in run.config:
    raise UserError(
      f"{folder}: {run.config.system} has no generator to look into."
    )
  if (folder / EXTENDED).is_file():
    raise UserError(
      f"{folder}: a run that was extended has no evaluation to look into; give"
      " the folder of the one that it was made from."
    )
  results = read_results(run.config, folder)
  split = run.config.evaluation.splits[-1]
  per_user = read_per_user(run.data, folder, split, results[split])
  return Finished(run.config, run.data, split, results, per_user)
