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

from mmgrec_jax.arrays import Form, check_arrays, read_arrays
from mmgrec_jax.errors import UserError, first_line
from mmgrec_jax.files import changed_file, read_json
from mmgrec_jax.serving.recommendation import Catalogue, Recommendation

PROGRAM, WEIGHTS, IDS = "program.jaxexport", "weights.npz", "ids.npz"
FILES = (PROGRAM, WEIGHTS, IDS)
ABOUT = "about.json"
MEND = "export again"
# By JAX's name of a backend, where programs are for something else.
PLATFORMS_OF = {"gpu": ["cuda", "rocm"]}
FORM = {"name": str, "k": int, "longest": int, "sha256": {str: str}}
FORMS = {
  "user_ids": Form(None, "U"),
  "item_ids": Form(None, "I"),
  "titles": Form(str, "I"),
  "offset": Form(int, "U1"),
  "seen": Form(int, "E", below="I"),
}


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
      UserError: a file is missing or damaged, or does not run here.
    """
    folder = Path(folder)
    about = _read_about(folder)
    self.k, self.longest = about["k"], about["longest"]
    self._batch = batch_size
    self._call, self._weights = _read_program(folder, self.longest)
    ids = _read_ids(folder / IDS, self.longest)
    self._offset, self._seen = ids["offset"], ids["seen"]
    self.catalogue = Catalogue(
      about["name"],
      ids["user_ids"],
      ids["item_ids"],
      ids["titles"],
      ids.get("rec_ids"),
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
  about = read_json(path, MEND, FORM)
  changed = changed_file(folder, about["sha256"], FILES)
  if changed:
    raise UserError(f"{changed}: missing or damaged; {MEND}.")
  return about


def _read_program(folder: Path, longest: int) -> tuple[Any, list[jax.Array]]:
  """What answers, of (weights, user_B, history_BxH), and the weights.

  Raises:
    UserError: they are damaged, do not fit together or do not run here.
  """
  arrays, path = read_arrays(folder / WEIGHTS, MEND), folder / PROGRAM
  try:
    weights = jax.device_put([arrays[name] for name in sorted(arrays)])
    program = jax.export.deserialize(bytearray(path.read_bytes()))
    *of_weights, _, history = program.in_avals
    fits = history.shape[1:] == (longest,)
    fits &= _facts(of_weights) == _facts(weights)
  except Exception as error:  # any, of flatbuffers and of JAX
    reason = first_line(error)
    raise UserError(f"{path}: damaged ({reason}); {MEND}.") from error
  if not fits:
    raise UserError(f"{path}: is of other weights or histories; {MEND}.")
  here = jax.default_backend()
  if not {*PLATFORMS_OF.get(here, [here])} & {*program.platforms}:
    raise UserError(
      f"{path}: does not run here, on {here}, but on"
      f" {', '.join(program.platforms)}; {MEND} for this one."
    )
  return jax.jit(program.call), weights


def _facts(arrays: Iterable[Any]) -> list[tuple]:
  return [(array.shape, array.dtype) for array in arrays]


def _read_ids(path: Path, longest: int) -> dict[str, np.ndarray]:
  """Ids, titles, Rec-IDs and what each user has seen.

  Raises:
    UserError: they are damaged or do not fit together.
  """
  ids = read_arrays(path, MEND, FORMS)
  if "rec_ids" in ids:
    n_items = len(ids["item_ids"])
    check_arrays(path, ids, MEND, {"rec_ids": Form(int, "IxM")}, I=n_items)
  offset, lengths = ids["offset"], np.diff(ids["offset"])
  if (
    len(offset) != len(ids["user_ids"]) + 1
    or (offset[0], offset[-1]) != (0, len(ids["seen"]))
    or lengths.min(initial=0) < 0
    or lengths.max(initial=0) > longest
  ):
    raise UserError(f"{path}: 'offset' does not fit; {MEND}.")
  return ids
