"""How a trained run of each kind ranks items for anyone.

Each class has
  rec_ids: of the catalogue, or None.
  vectors: (h_user [U, D], h_item [I, D]), or None.
  recommend(k): as `evaluation.ranking.Recommend`; lists may be longer than k.
  users_at_a_time(k): how many a device handles together.
  params(allowed_I): what `recommend` reads; None: any item.
and, where there are vectors,
  vectors_of(params): the same, of these parameters.
  with_users(params, h_user): parameters with other users.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from mmgrec_jax.data.dataset import Rows
from mmgrec_jax.decoding.allowed import allow
from mmgrec_jax.evaluation.ranking import (
  Recommend,
  rank_by_inner_product,
  rank_unseen,
  users_to_rank_for,
)
from mmgrec_jax.models import item_item
from mmgrec_jax.models import settings as baselines
from mmgrec_jax.serving.trained import (
  Trained,
  reload_generator,
  rescored,
  vectors_file,
)
from mmgrec_jax.stages.item_item import read_matrix
from mmgrec_jax.stages.rankers import Search, beams_of, users_at_a_time
from mmgrec_jax.stages.vectors import read_vectors


class Beams:
  """mmgrec and tiger: beam search, re-scored as the run does it."""

  def __init__(self, run: Trained):
    self._config = run.config
    self._model, self.rec_ids, search = reload_generator(run)
    self._search = rescored(run, search)
    h = self.vectors_of(self._search)
    self.vectors: Any = None if h[0] is None else h

  def recommend(self, k: int) -> Recommend:
    return beams_of(self._config, self._model, self._width(k))

  def users_at_a_time(self, k: int) -> int:
    return users_at_a_time(self._config, self._width(k))

  def _width(self, k: int) -> int:
    return max(k, self._config.evaluation.beam_width)

  def params(self, allowed_I: np.ndarray | None) -> Search:
    if allowed_I is None:
      return self._search
    return self._search._replace(allowed=allow(self.rec_ids, allowed_I))

  def vectors_of(self, params: Search):
    return params.vectors.user_UxD, params.vectors.item_IxD

  def with_users(self, params: Search, h_user) -> Search:
    vectors = dataclasses.replace(params.vectors, user_UxD=h_user)
    return params._replace(vectors=vectors)


class InnerProduct:
  """A baseline with vectors: the largest h_u . h_i."""

  rec_ids = None

  def __init__(self, run: Trained):
    h = read_vectors(vectors_file(run), run.data)
    self.vectors: Any = tuple(map(jnp.asarray, h.values()))
    self._users = users_to_rank_for(
      run.config.evaluation.batch_size, run.data.n_items
    )

  def users_at_a_time(self, k: int) -> int:
    del k
    return self._users

  def recommend(self, k: int) -> Recommend:
    def best(params, user_B, history_BxH, seen_BxS):
      del history_BxH
      (h_user, h_item), allowed_I = params
      return rank_by_inner_product(
        h_user, h_item, user_B, seen_BxS, k, allowed_I
      )

    return best

  def params(self, allowed_I: np.ndarray | None):
    return self.vectors, allowed_I

  def vectors_of(self, params):
    return params[0]

  def with_users(self, params, h_user):
    (_, h_item), allowed_I = params
    return (h_user, h_item), allowed_I


class ItemItem:
  """itemknn and ease: a row of the matrix for each item of a history."""

  rec_ids = None
  vectors: Any = None

  def __init__(self, run: Trained):
    _, self._score = item_item.SYSTEMS[run.config.system]
    self._items = run.data.n_items
    self._users = users_to_rank_for(
      run.config.evaluation.batch_size, run.data.n_items
    )
    self._matrix = read_matrix(
      run.folder / "item_item.npz", run.config.system, run.data.n_items
    )

  def users_at_a_time(self, k: int) -> int:
    del k
    return self._users

  def recommend(self, k: int) -> Recommend:
    def best(params, user_B, history_BxH, seen_BxS):
      del user_B
      matrix, allowed_I = params
      x_BxI = item_item.zeros_and_ones(history_BxH, self._items)
      scores_BxI = self._score(matrix, x_BxI)
      return rank_unseen(scores_BxI, seen_BxS, k, allowed_I)

    return best

  def params(self, allowed_I: np.ndarray | None):
    return self._matrix, allowed_I


def system_of(run: Trained) -> Any:
  """One of the classes above, ready to rank.

  Raises:
    UserError: a file of the run is missing or damaged.
  """
  if "generator" in run.config:
    return Beams(run)
  if run.config.system in baselines.ITEM_ITEM:
    return ItemItem(run)
  return InnerProduct(run)


def fold_in(h_user, h_item, train: Rows):
  """W [D, D] so that (mean h_item of a history) W is about the user's h_user.

  Least squares over the users who trained, with a little ridge. So someone new
  gets a vector from a history alone, whatever model made the vectors; of a
  GCN's last layer it is the step from a user's neighbours to the user.

  Args:
    train: the users' training items.
  """
  x_UxD = mean_of_rows(h_item, train)
  gram_DxD = x_UxD.T @ x_UxD
  D = len(gram_DxD)
  ridge = 1e-3 * jnp.trace(gram_DxD) / D + 1e-9
  return jnp.linalg.solve(
    gram_DxD + ridge * jnp.eye(D), x_UxD.T @ jnp.asarray(h_user)
  )


def mean_of_rows(h_item, rows: Rows):
  """Mean h_item of each row, [U, D]; zeros of an empty one."""
  lengths = rows.lengths
  user_E = np.repeat(np.arange(len(lengths)), lengths)
  total_UxD = (
    jnp.zeros((len(lengths), h_item.shape[1]))
    .at[user_E]
    .add(jnp.asarray(h_item)[rows.items])
  )
  return total_UxD / jnp.asarray(np.maximum(lengths, 1))[:, None]
