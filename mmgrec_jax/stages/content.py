"""content.npz: how alike items are by features, for MMGRec's re-scoring."""

from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mmgrec_jax.arrays import Form, check_arrays, read_arrays, write_arrays
from mmgrec_jax.config import Config
from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.files import AGAIN, is_made
from mmgrec_jax.models.content import (
  Content,
  nearest_by_content,
  principal_components,
)
from mmgrec_jax.nn.nearest import SparseRows
from mmgrec_jax.stages.load import normalised_features
from mmgrec_jax.workdir import Workdir

FORMS = {
  "index": Form(int, "IxN", below="I"),
  "weight": Form(float, "IxN"),
  "components": Form(float, "IxC"),
}


def make_content(
  config: Config, data: Dataset, folder: Workdir
) -> dict[str, Content]:
  """By name of the score, made or read: those that are wanted."""
  wanted = config.evaluation.rescore.scores
  if not {"nearest", "profile"} & {*wanted}:
    return {}
  path = folder.path / "content.npz"
  if not is_made(path):
    save_content(config, normalised_features(config, data), folder.path)
  found = read_content(path, data.n_items)
  return {n: found[n] for n in found if n.rpartition(" ")[2] in wanted}


def save_content(
  config: Config,
  features: Mapping[str, np.ndarray],
  folder: Path,
  known_I: np.ndarray | None = None,
) -> None:
  """Writes the file.

  Args:
    features: by modality, normalised, [I, F].
    known_I: as of `principal_components`.
  """
  settings, arrays = config.evaluation.rescore, {}
  for modality, x_IxF in features.items():
    rows = jax.jit(nearest_by_content, static_argnums=1)(
      jnp.asarray(x_IxF), settings.neighbours
    )
    arrays[f"{modality}/index"] = np.asarray(rows.index_RxC)
    arrays[f"{modality}/weight"] = np.asarray(rows.weight_RxC)
    arrays[f"{modality}/components"] = principal_components(
      x_IxF, settings.width, known_I
    )
  write_arrays(folder / "content.npz", arrays)


def read_content(path: Path, n_items: int) -> dict[str, Content]:
  """Two scores of each modality, by name.

  Raises:
    UserError: the file is missing or damaged, or is of other items.
  """
  arrays = read_arrays(path, AGAIN)
  found: dict[str, Content] = {}
  for modality in dict.fromkeys(name.rpartition("/")[0] for name in arrays):
    forms = {f"{modality}/{part}": form for part, form in FORMS.items()}
    # One modality at a time: N and C may be another's.
    check_arrays(path, arrays, AGAIN, forms, I=n_items)
    index, weight, components = (jnp.asarray(arrays[name]) for name in forms)
    found[f"{modality} nearest"] = SparseRows(index, weight)
    found[f"{modality} profile"] = components
  return found
