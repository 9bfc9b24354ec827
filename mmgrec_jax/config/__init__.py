"""Settings: their defaults, presets and checks. No JAX here: it is read before
that may start."""

from mmgrec_jax.config.checks import CHOICES, check, has_effect
from mmgrec_jax.config.defaults import (
  EMBEDDING,
  EMBEDDINGS,
  SCORES,
  SYSTEMS,
  Config,
  ConfigDict,
  default_config,
  model_name,
  optimizer_defaults,
)
from mmgrec_jax.config.presets import PRESETS, chosen, from_preset
from mmgrec_jax.config.values import (
  differences,
  flatten,
  set_value,
  to_json,
  unknown_key,
)

__all__ = [
  "CHOICES",
  "EMBEDDING",
  "EMBEDDINGS",
  "PRESETS",
  "SCORES",
  "SYSTEMS",
  "Config",
  "ConfigDict",
  "check",
  "chosen",
  "default_config",
  "differences",
  "flatten",
  "from_preset",
  "has_effect",
  "model_name",
  "optimizer_defaults",
  "set_value",
  "to_json",
  "unknown_key",
]
