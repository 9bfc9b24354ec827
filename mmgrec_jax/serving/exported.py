"""An exported recommender: needs JAX, NumPy and flatbuffers, no training code.

`python -m mmgrec_jax.export` writes the folder that this reads.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from mmgrec_jax.errors import UserError
from mmgrec_jax.files import changed_file, read_json
from mmgrec_jax.serving.recommendation import Catalogue, Recommendation

PROGRAM, WEIGHTS, IDS = "program.jaxexport", "weights.npz", "ids.npz"
ABOUT = "about.json"


class ExportedRecommender:
  """Answers as the run that was exported would.

  Attributes:
    k: items for each user, fixed when it was exported.
    longest: items of a history, at most.
  """

  def __init__(self, folder: str | Path, batch_size: int = 128):
    """Reads an exported folder.

    Args:
      batch_size: users at a time.

    Raises:
      UserError: a file is missing or damaged.
    """
    folder = Path(folder)
    about = _read_about(folder)
    self.k, self.longest = about["k"], about["longest"]
    self._batch = batch_size
    program = (folder / PROGRAM).read_bytes()
    self._call: Any = jax.jit(jax.export.deserialize(bytearray(program)).call)
    with np.load(folder / WEIGHTS, allow_pickle=False) as saved:
      self._weights = jax.device_put([saved[name] for name in saved])
    with np.load(folder / IDS, allow_pickle=False) as saved:
      self._offset, self._seen = saved["offset"], saved["seen"]
      self.catalogue = Catalogue(
        about["name"],
        saved["user_ids"],
        saved["item_ids"],
        saved["titles"],
        dict(saved).get("rec_ids"),
      )

  def recommend(self, users: Iterable[Hashable]) -> Iterator[Recommendation]:
    """The best items for each user of the data set, a batch at a time.

    Raises:
      UserError: an unknown id.
    """
    users = iter(users)
    while some := list(islice(users, self._batch)):
      rows = [self.catalogue.user_row(user) for user in some]
      bounds = [self._offset[row : row + 2] for row in rows]
      yield from self._lists(rows, [self._seen[a:b] for a, b in bounds])

  def recommend_to_new(
    self, histories: Sequence[Iterable[Hashable]]
  ) -> Iterator[Recommendation]:
    """The best items for people of whom only a history is known.

    Raises:
      UserError: an unknown id, or a history that is empty or too long.
    """
    found = self.catalogue.history_rows(histories)
    most = max(map(len, found), default=0)
    if most > self.longest:
      raise UserError(
        f"a history has {most} items, but at most {self.longest} were provided"
        " for; export again with a larger --longest."
      )
    for start in range(0, len(found), self._batch):
      some = found[start : start + self._batch]
      yield from self._lists([None] * len(some), some)

  def _lists(self, rows: Sequence, histories: Sequence):
    """rows: of users, None = someone new.  histories: rows of items."""
    history_BxH = np.full((len(rows), self.longest), -1, np.int32)
    for place, history in enumerate(histories):
      history_BxH[place, : len(history)] = history
    user_B = np.array([-1 if r is None else r for r in rows], np.int32)
    items_NxK, scores_NxK = self._call(self._weights, user_B, history_BxH)
    yield from self.catalogue.named(
      rows, np.asarray(items_NxK), np.asarray(scores_NxK), self.k
    )


def _read_about(folder: Path) -> dict[str, Any]:
  path = folder / ABOUT
  if not path.is_file():
    raise UserError(f"{path}: not found; give a folder that export wrote.")
  about = read_json(path, "export again")
  types = {"name": str, "k": int, "longest": int, "sha256": dict}
  for name, type_ in types.items():
    if not isinstance(about.get(name), type_):
      raise UserError(f"{path}: damaged ({name!r} is missing); export again.")
  changed = changed_file(folder, about["sha256"])
  if changed:
    raise UserError(f"{changed}: missing or damaged; export again.")
  return about
