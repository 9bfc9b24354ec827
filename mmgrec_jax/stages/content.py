"""content.npz: each item's nearest others, for MMGRec's re-scoring."""

from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mmgrec_jax.config import Config
from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.files import is_made, write_arrays
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
  return read_content(path)


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


def read_content(path: Path) -> dict[str, SparseRows]:
  with np.load(path, allow_pickle=False) as saved:
    arrays = {name: jnp.asarray(array) for name, array in saved.items()}
  names = dict.fromkeys(name.rpartition("/")[0] for name in arrays)
  return {
    name: SparseRows(arrays[f"{name}/index"], arrays[f"{name}/weight"])
    for name in names
  }
