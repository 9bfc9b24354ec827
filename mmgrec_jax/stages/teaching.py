"""teacher.npz: the vectors re-scored, as the generator's teacher.

What re-scoring makes of the items with the largest h_u . h_i is a distribution
over what a user would choose: the logits are those of its conditional logit.
"""

import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from mmgrec_jax.arrays import Form, check_arrays, read_arrays, write_arrays
from mmgrec_jax.config import Config
from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.files import AGAIN, is_made
from mmgrec_jax.models.generator import Vectors
from mmgrec_jax.stages import rescoring
from mmgrec_jax.stages.rankers import Search
from mmgrec_jax.training import parallel
from mmgrec_jax.training.soft_targets import Lists
from mmgrec_jax.workdir import Workdir

FORMS = {
  "item": Form(int, "UxK", below="I", least=-1),
  "logit": Form(float, "UxK"),
}


def make_teacher(
  config: Config, data: Dataset, folder: Workdir, vectors: Vectors
) -> Lists | None:
  """Each user's lists, made or read; None: h_u . h_i is the teacher.

  Raises:
    UserError: teacher.npz is damaged.
  """
  soft = config.generator.soft_targets
  if soft.teacher == "vectors" or not soft.share:
    return None
  path = folder.path / "teacher.npz"
  if not is_made(path):
    write_arrays(path, _lists(config, data, folder, vectors))
  return read_teacher(path, data)


def read_teacher(path: Path, data: Dataset) -> Lists:
  """What teacher.npz holds.

  Raises:
    UserError: it is missing or damaged, or is of other data.
  """
  arrays = read_arrays(path, AGAIN)
  check_arrays(path, arrays, AGAIN, FORMS, U=data.n_users, I=data.n_items)
  return Lists(*(jnp.asarray(arrays[name]) for name in FORMS))


def _lists(
  config: Config, data: Dataset, folder: Workdir, vectors: Vectors
) -> dict[str, np.ndarray]:
  ease_IxI = rescoring.make_ease(config, data, folder)
  started = time.monotonic()
  no_trie: Any = None
  search, names = rescoring.with_scores(
    config, data, folder, Search(None, vectors, no_trie), ease_IxI
  )
  with parallel.enough_memory("the teacher", parallel.FEWER_USERS):
    mix, ranker, search = rescoring.nearest_rescored(
      config, data, search, names
    )
    print(f"teacher: {rescoring.shares(mix)}")
    users = np.arange(data.n_users)
    item_UxK, logit_UxK = ranker(parallel.replicate(search), users)
  folder.note_seconds("teacher", time.monotonic() - started)
  return {"item": item_UxK, "logit": np.where(item_UxK >= 0, logit_UxK, 0.0)}
