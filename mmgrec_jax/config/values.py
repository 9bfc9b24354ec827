"""Settings by their dotted keys: read, set, compared, written."""

import difflib
import json
from collections.abc import Iterator

from mmgrec_jax.config.defaults import Config, ConfigDict, default_like
from mmgrec_jax.errors import UserError


def flatten(tree, prefix: str = "") -> Iterator[tuple[str, object]]:
  """(dotted key, value) of every setting."""
  for name, value in tree.items():
    if isinstance(value, dict | ConfigDict):
      yield from flatten(value, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}", value


def set_value(config: Config, key: str, value: object) -> None:
  """Sets `a.b.c`, keeping the default's type.

  Raises:
    UserError: no such setting (names the nearest), or another type.
  """
  known = dict(flatten(default_like(config)))
  if key not in known:
    raise UserError(unknown_key(key, config))
  default = known[key]
  if isinstance(default, float) and isinstance(value, int):
    value = float(value)
  if isinstance(default, tuple) and isinstance(value, list):
    value = tuple(value)
  if type(value) is not type(default):
    raise UserError(
      f"config.{key} = {value!r}: it must be of type"
      f" {type(default).__name__}, like {default!r}."
    )
  *path, last = key.split(".")
  for name in path:
    config = config[name]
  config[last] = value


def unknown_key(key: str, config: Config) -> str:
  """The message for a setting that `config` has not."""
  known = [k for k, _ in flatten(config)]
  by_name = [k for k in known if k.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
  near = difflib.get_close_matches(key, by_name or known, 1, 0.0)[0]
  return f"config.{key} is no setting; did you mean config.{near}?"


def to_json(config: Config) -> str:
  """Stable text form, for config.json."""
  return json.dumps(config.to_dict(), indent=1, sort_keys=True)


# With these a run goes on as it began: with its data elsewhere (dataset.json
# says whether it is the same), on other devices, fewer users at a time, or past
# a refusal.
WITHOUT_RESULT = (
  "data",
  "published",
  "train.checkpoint_seconds",
  "train.steps_per_call",
  "model_shards",
  "evaluation.batch_size",
  "recid.min_r2",
  "recid.min_usage",
  "recid.ignore_health",
  "model.max_gib",
)


def differences(old: dict, new: dict) -> list[str]:
  """One line for each setting that is not the same, but `WITHOUT_RESULT`."""
  a, b = dict(flatten(old)), dict(flatten(new))
  as_text = lambda tree, key: json.dumps(tree.get(key))
  return [
    f"config.{key}: {as_text(a, key)} there, {as_text(b, key)} now"
    for key in sorted(a | b)
    if key not in WITHOUT_RESULT and as_text(a, key) != as_text(b, key)
  ]
