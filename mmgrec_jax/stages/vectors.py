"""vectors.npz and embed/vectors.npz: what is learned of users and items."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mmgrec_jax.arrays import Form, read_arrays
from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.errors import UserError
from mmgrec_jax.files import AGAIN

VECTORS = ("user", "item")
LARGEST = 1e15  # the squares of larger numbers do not add up in float32
# `codes` are semantic tokens. Of an extended run: users whose vectors are of
# items they had, items whose vectors were trained. Of any other, those with
# training interactions.
FORMS = {
  "user": Form(float, "UxD"),
  "item": Form(float, "IxD"),
  "codes": Form(int, "IxS", below="L"),
  "r2": Form(float, ""),
  "known_users": Form(bool, "U"),
  "trained_items": Form(bool, "I"),
}


def read_vectors(
  path: Path, data: Dataset, names: Iterable[str] = VECTORS, **sizes: int
) -> dict[str, np.ndarray]:
  """Arrays of a run's file, in the order asked for.

  Args:
    names: keys of `FORMS`.
    sizes: L, the codebook's, where `codes` are asked for.

  Raises:
    UserError: the file is missing or damaged, or is of other data.
  """
  forms = {name: FORMS[name] for name in names}
  arrays = read_arrays(
    path, AGAIN, forms, U=data.n_users, I=data.n_items, **sizes
  )
  for name in forms:
    if not np.abs(arrays[name]).max(initial=0) < LARGEST:
      raise UserError(f"{path}: {name!r} is not finite; {AGAIN}.")
  return {name: arrays[name] for name in forms}
