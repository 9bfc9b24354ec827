"""The one stage of itemknn and ease: their matrix of items by items.

MMGRec's re-scoring has ease's, too.
"""

import time
from pathlib import Path

import numpy as np

from mmgrec_jax.arrays import Form, read_arrays, write_arrays
from mmgrec_jax.config import Config
from mmgrec_jax.data.dataset import TRAIN, Dataset
from mmgrec_jax.evaluation.ranking import (
  Ranker,
  rank_unseen,
  users_to_rank_for,
)
from mmgrec_jax.files import AGAIN, is_made
from mmgrec_jax.models import item_item
from mmgrec_jax.workdir import Workdir

FORMS = {
  "itemknn": {
    "index_IxC": Form(int, "IxC", below="I"),
    "weight_IxC": Form(float, "IxC"),
  },
  "ease": {"weight_IxI": Form(float, "IxI")},
}


def make_matrix(
  system: str, settings: Config, data: Dataset, folder: Workdir
) -> item_item.Matrix:
  """Made of the training interactions, or read from item_item.npz.

  Args:
    settings: as of `models.settings.ITEM_ITEM[system]`.
  """
  path = folder.path / "item_item.npz"
  if not is_made(path):
    started = time.monotonic()
    make, _ = item_item.SYSTEMS[system]
    matrix = make(data.rows(TRAIN), data.n_items, settings)
    write_arrays(path, dict(matrix))
    folder.note_seconds(system, time.monotonic() - started)
  return read_matrix(path, system, data.n_items)


def read_matrix(path: Path, system: str, n_items: int) -> dict[str, np.ndarray]:
  """A matrix that is made.

  Raises:
    UserError: the file is missing or damaged, or is of other items.
  """
  return read_arrays(path, AGAIN, FORMS[system], I=n_items)


def item_item_ranker(config: Config, data: Dataset, k: int) -> Ranker:
  """Ranks by x_u W; its parameters are the matrix."""
  _, score = item_item.SYSTEMS[config.system]

  def recommend(matrix, user_B, history_BxH, seen_BxS):
    del user_B
    x_BxI = item_item.zeros_and_ones(history_BxH, data.n_items)
    return rank_unseen(score(matrix, x_BxI), seen_BxS, k)

  users = users_to_rank_for(config.evaluation.batch_size, data.n_items)
  return Ranker(recommend, data.rows(TRAIN), users, seed=None)
