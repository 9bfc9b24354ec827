"""content.npz: each item's nearest others, for MMGRec's re-scoring."""

from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mmgrec_jax.arrays import Form, check_arrays, read_arrays, write_arrays
from mmgrec_jax.config import Config
from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.files import AGAIN, is_made
from mmgrec_jax.models.content import nearest_by_content
from mmgrec_jax.nn.nearest import SparseRows
from mmgrec_jax.stages.load import normalised_features
from mmgrec_jax.workdir import Workdir


def make_content(
  config: Config, data: Dataset, folder: Workdir
) -> dict[str, SparseRows]:
  """By name of the score, made or read; nothing where it is not wanted."""
  if not any(config.evaluation.content.shares):
    return {}
  path = folder.path / "content.npz"
  if not is_made(path):
    save_content(config, normalised_features(config, data), folder.path)
  return read_content(path, data.n_items)


def save_content(
  config: Config, features: Mapping[str, np.ndarray], folder: Path
) -> None:
  """Writes the file.

  Args:
    features: by modality, normalised, [I, F].
  """
  arrays = {}
  for modality, x_IxF in features.items():
    rows = jax.jit(nearest_by_content, static_argnums=1)(
      jnp.asarray(x_IxF), config.evaluation.content.neighbours
    )
    arrays[f"{modality} features/index"] = np.asarray(rows.index_RxC)
    arrays[f"{modality} features/weight"] = np.asarray(rows.weight_RxC)
  write_arrays(folder / "content.npz", arrays)


def read_content(path: Path, n_items: int) -> dict[str, SparseRows]:
  """Each modality's nearest others, by name of the score.

  Raises:
    UserError: the file is missing or damaged, or is of other items.
  """
  arrays = read_arrays(path, AGAIN)
  names = dict.fromkeys(name.rpartition("/")[0] for name in arrays)
  forms = {}
  for name in names:
    forms[f"{name}/index"] = Form(int, "IxC", below="I")
    forms[f"{name}/weight"] = Form(float, "IxC")
  check_arrays(path, arrays, AGAIN, forms, I=n_items)
  of = lambda name, part: jnp.asarray(arrays[f"{name}/{part}"])
  return {
    name: SparseRows(of(name, "index"), of(name, "weight")) for name in names
  }
