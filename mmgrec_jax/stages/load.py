"""Stage 1: the data set that the config names."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mmgrec_jax.config import Config
from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.data.features import normalise_features
from mmgrec_jax.data.folder import load_dataset
from mmgrec_jax.data.synthetic import make_synthetic
from mmgrec_jax.errors import UserError


def load_data(config: Config) -> Dataset:
  """Reads `config.data`, or makes the synthetic set.

  Raises:
    UserError: there is none, with where it should be and where it is published.
  """
  data = find_data(config)
  if not data.features and "rqvae" in config:
    raise UserError(
      f"{config.data}: no feat_<modality>.npy; Rec-IDs need at least one item"
      " modality."
    )
  return data


def find_data(config: Config) -> Dataset:
  """As `load_data`, whether or not the system can do with it."""
  if config.data == "synthetic":
    return make_synthetic(**config.synthetic.to_dict())
  if not config.data or not Path(config.data).is_dir():
    raise UserError(
      f"No data set at {config.data or '(none given)'!r}: put a folder with"
      " interactions.npz and feat_<modality>.npy there, or give its place with"
      " --config.data=DIR (of a finished run: --data=DIR)"
      f"{config.published and '; '}{config.published}."
    )
  return load_dataset(config.data)


def normalised_features(
  config: Config, data: Dataset, scale_of_I: np.ndarray | None = None
) -> dict[str, np.ndarray]:
  """Each modality, normalised as the config says. float32 [I, F_m].

  Args:
    scale_of_I: as of `normalise_features`.
  """
  return {
    name: normalise_features(
      data.features[name], config.feature_norm, scale_of_I
    )
    for name in sorted(data.features)
  }


def joined_features(config: Config, data: Dataset) -> jax.Array:
  """All modalities side by side, each normalised. float32 [I, F]."""
  parts = list(normalised_features(config, data).values())
  return jnp.asarray(np.concatenate(parts, axis=1))


def stage_key(config: Config, purpose: int) -> jax.Array:
  """A key of its own for each purpose, all from `config.seed`."""
  return jax.random.fold_in(jax.random.key(config.seed), purpose)
