"""What anything that recommends returns, and the ids it is asked in."""

import dataclasses
from collections.abc import Hashable, Iterable, Iterator

import numpy as np

from mmgrec_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Recommendation:
  """One user's list, best first; shorter than asked for where nothing is left.

  user: the caller's id; None: someone new.
  items: the caller's ids.  titles: str, or the ids where there are none.
  scores: float32, comparable within a list: what the run orders by.
  rec_ids: int32 [n, M], or None where the system has none.
  """

  user: Hashable | None
  items: np.ndarray
  titles: np.ndarray
  scores: np.ndarray
  rec_ids: np.ndarray | None


class Catalogue:
  """The ids of a data set, and rows of it as a caller knows them.

  rec_ids_IxM: int32, or None where the system has none.
  """

  def __init__(
    self,
    name: str,
    user_ids: np.ndarray,
    item_ids: np.ndarray,
    titles: np.ndarray,
    rec_ids_IxM: np.ndarray | None,
  ):
    self._name = name
    self._user_ids, self._item_ids = user_ids, item_ids
    self._titles = titles.astype(str)
    self._rec_ids_IxM = rec_ids_IxM
    self._user_row = rows_by_id(user_ids)
    self._item_row = rows_by_id(item_ids)

  def user_row(self, user: Hashable) -> int:
    """A user's row; 196 and "196" are the same.

    Raises:
      UserError: there is no such user.
    """
    return self._find(
      "user", user, self._user_row, "for someone new give a history"
    )

  def item_row(self, item: Hashable) -> int:
    """An item's row.

    Raises:
      UserError: there is no such item.
    """
    return self._find("item", item, self._item_row, "give ids of the data set")

  def _find(
    self, kind: str, name: Hashable, rows: dict[str, int], mend: str
  ) -> int:
    row = rows.get(str(name))
    if row is None:
      raise UserError(
        f"{kind} {name!r} is not in {self._name}, whose {kind}s are such as"
        f" {next(iter(rows))!r}; {mend}."
      )
    return row

  def history_rows(self, histories: Iterable[Iterable[Hashable]]) -> list[list]:
    """Rows of the items that people liked, each once.

    Raises:
      UserError: an item is unknown, or a history is empty.
    """
    found = [
      list(dict.fromkeys(self.item_row(item) for item in history))
      for history in histories
    ]
    for place, history in enumerate(found, start=1):
      if not history:
        raise UserError(
          f"history {place} of {len(found)} is empty; give at least one item."
        )
    return found

  def named(
    self,
    user_rows: Iterable[int | None],
    items_NxK: np.ndarray,
    scores_NxK: np.ndarray,
    k: int,
  ) -> Iterator[Recommendation]:
    """Lists of item rows (-1 = ended) as `Recommendation`s."""
    for user, items, scores in zip(
      user_rows, items_NxK, scores_NxK, strict=True
    ):
      real = (items[:k] >= 0).sum()
      rows = items[:real]
      ids = self._rec_ids_IxM
      yield Recommendation(
        None if user is None else self._user_ids[user].item(),
        self._item_ids[rows],
        self._titles[rows],
        scores[:real],
        None if ids is None else ids[rows],
      )


def rows_by_id(ids: np.ndarray) -> dict[str, int]:
  """196 and "196" are the same."""
  return {str(name): row for row, name in enumerate(ids.tolist())}
