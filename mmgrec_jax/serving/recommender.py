"""A trained run that recommends, in the caller's own ids."""

import functools
import itertools
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from mmgrec_jax.data.dataset import TRAIN, Dataset, Rows
from mmgrec_jax.errors import UserError
from mmgrec_jax.evaluation.ranking import Ranker, rounded_up, shuffled
from mmgrec_jax.serving.recommendation import Catalogue, Recommendation
from mmgrec_jax.serving.systems import fold_in, mean_of_rows, system_of
from mmgrec_jax.serving.trained import Trained, known_users, open_workdir
from mmgrec_jax.stages.rankers import histories, reads_in_time
from mmgrec_jax.training import parallel


class Recommender:
  """Recommends what a user has not seen, as the run's last system ranks.

  Example:
    recommender = Recommender.load("runs/ml100k")
    for one in recommender.recommend(["196", "22"], k=5):
      print(one.user, list(one.titles))
  """

  def __init__(self, run: Trained, seen: str = "all"):
    """Args: as of `load`."""
    if seen not in ("all", "train"):
      raise UserError(f"seen is {seen!r}; it is 'all' or 'train'.")
    self.data: Dataset = run.data
    self._config = run.config
    self.system = system_of(run)
    self._known_users = functools.partial(known_users, run)
    split = None if seen == "all" else TRAIN
    self.seen_rows = histories(run.config, self.data, split)
    if not reads_in_time(run.config, self.data):
      self.seen_rows = shuffled(self.seen_rows, run.config.seed)
    rec_ids = self.system.rec_ids
    self.catalogue = Catalogue(
      self.data.name,
      self.data.user_ids,
      self.data.item_ids,
      self.data.names,
      None if rec_ids is None else rec_ids.tokens_IxM,
    )
    self._ranker = functools.lru_cache(8)(self._build_ranker)

  @classmethod
  def load(
    cls,
    workdir: str | Path,
    data: str | Path | None = None,
    seen: str = "all",
  ) -> "Recommender":
    """Reads a finished run.

    Args:
      workdir: its folder.
      data: the data set's folder; default: where the run found it.
      seen: what is read of a user and never recommended: 'all' interactions
        that the data set has, or those of 'train', as in the evaluation.

    Raises:
      UserError: the run is not finished, or the data set is another one.
    """
    return cls(open_workdir(Path(workdir), data), seen)

  def recommend(
    self,
    users: Iterable[Hashable],
    k: int = 10,
    exclude: Iterable[Hashable] = (),
    only: Iterable[Hashable] | None = None,
  ) -> list[Recommendation]:
    """The k best items for each user.

    Args:
      users: ids of the data set; 196 and "196" are the same.
      exclude: ids of items that nobody is to get.
      only: ids of the items to choose from; None: all.

    Raises:
      UserError: an unknown id, or k is more than the items to choose from.
    """
    return list(self.stream(users, k, exclude, only))

  def stream(
    self,
    users: Iterable[Hashable],
    k: int = 10,
    exclude: Iterable[Hashable] = (),
    only: Iterable[Hashable] | None = None,
  ) -> Iterator[Recommendation]:
    """As `recommend`, a batch of users in memory at a time."""
    params = self._placed(k, exclude, only)
    batch = self._config.evaluation.batch_size * len(parallel.devices())
    users = iter(users)
    while some := list(itertools.islice(users, batch)):
      rows = np.array([self.catalogue.user_row(user) for user in some])
      lists = self._ranker(k)(params, rows)
      yield from self.catalogue.named(rows, *lists, k)

  def recommend_to_new(
    self,
    histories: Sequence[Iterable[Hashable]],
    k: int = 10,
    exclude: Iterable[Hashable] = (),
    only: Iterable[Hashable] | None = None,
  ) -> list[Recommendation]:
    """The k best items for people whom the run has never seen.

    Args:
      histories: for each, ids of the items they liked, the newest first where
        the run reads histories in the order of time.

    Raises:
      UserError: as of `recommend`, or a history is empty.
    """
    found = self.catalogue.history_rows(histories)
    if not found:
      return []
    offset = np.cumsum([0, *map(len, found)])
    rows = Rows(offset.astype("i4"), np.concatenate(found).astype("i4"))
    shapes = rounded_up(rows)
    params = self._placed(k, exclude, only)
    if self.system.vectors is not None:
      _, h_item = self.system.vectors
      h_user = mean_of_rows(h_item, rows) @ self.fold
      h_user = jnp.pad(h_user, [(0, len(shapes.lengths) - len(h_user)), (0, 0)])
      params = self.system.with_users(params, parallel.replicate(h_user))
    lists = self._ranker(k).of(shapes)(params, np.arange(len(histories)))
    return list(self.catalogue.named([None] * len(histories), *lists, k))

  @functools.cached_property
  def fold(self):
    """Mean vector of a history -> vector of its user, [D, D]."""
    h_user, h_item = self.system.vectors
    return fold_in(h_user, h_item, self.data.rows(TRAIN))

  def _build_ranker(self, k: int) -> Ranker:
    at_a_time = self.system.users_at_a_time(k)
    return Ranker(
      self.system.recommend(k), self.seen_rows, at_a_time, seed=None
    )

  @functools.cached_property
  def _h_user(self):
    """[U, D]. Who had no item in training has an untrained vector: in its place
    is that of someone new with the items they have been seen with since."""
    h_user, h_item = self.system.vectors
    late_U = ~self._known_users() & (self.seen_rows.lengths > 0)
    if not late_U.any():
      return h_user
    h_late = mean_of_rows(h_item, self.seen_rows) @ self.fold
    return jnp.where(late_U[:, None], h_late, h_user)

  def params(self, k: int):
    """What `system.recommend(k)` reads where any item is allowed.

    Raises:
      UserError: k is more than there are items.
    """
    return self._of(self._allowed(k, (), None))

  def _placed(self, k: int, exclude, only):
    """On the devices, where those for any item stay."""
    allowed_I = self._allowed(k, exclude, only)
    if allowed_I is None:
      return self._of_any
    return parallel.replicate(self._of(allowed_I))

  @functools.cached_property
  def _of_any(self):
    return parallel.replicate(self._of(None))

  def _of(self, allowed_I: np.ndarray | None):
    params = self.system.params(allowed_I)
    if self.system.vectors is None:
      return params
    return self.system.with_users(params, self._h_user)

  def _allowed(self, k: int, exclude, only) -> np.ndarray | None:
    """bool [I]; None: any item. Args, Raises: as of `recommend`."""
    allowed_I = np.full(self.data.n_items, only is None)
    if only is not None:
      allowed_I[[self.catalogue.item_row(item) for item in only]] = True
    allowed_I[[self.catalogue.item_row(item) for item in exclude]] = False
    left = int(allowed_I.sum())
    if not 1 <= k <= left:
      raise UserError(
        f"k is {k}, but there are {left} items to choose from; give a k from 1"
        " to that, or exclude less."
      )
    return allowed_I if left < self.data.n_items else None
