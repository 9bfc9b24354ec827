"""Which runs a table, a sweep or a figure needs, each checked beforehand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from experiments.runs import Run, Variant
from mmgrec_jax import config as configs
from mmgrec_jax.errors import UserError
from mmgrec_jax.files import AGAIN, read_json
from mmgrec_jax.main import explain
from mmgrec_jax.models.settings import ITEM_ITEM

# Presets of the config files that are systems here: MMGRec as the paper has it,
# and with beams that rank as well as their teacher.
PAPER, DISTILLED = "paper", "distilled"


def plan_runs(
  file: str,
  settings: Mapping[str, str],
  variants: Mapping[str, Variant],
  seeds: Sequence[int],
  out: Path,
) -> list[Run]:
  """All runs, seed by seed, each checked before the first one starts.

  Args:
    file: of the config.
    settings: KEY -> VALUE; each goes to the rows that use it.
    variants: by row of the table.
    seeds: of each, but the first is enough where nothing is random, and of
      `PAPER`, which takes hours.
    out: runs are in OUT/<row>-<seed>.

  Raises:
    UserError: no such config file, setting or data, a bad value, or a folder
      with other settings or data.
  """
  if ":" in file:
    raise UserError(f"--config={file}: no colon here; --models picks systems.")
  if "seed" in settings:
    raise UserError("--config.seed: give --seeds (a sweep: --seed) instead.")
  if "evaluation.splits" in settings:
    raise UserError(
      "--config.evaluation.splits: a table needs both, a sweep never looks at"
      " the test split."
    )
  default = {
    variant.system: read_config([f"--config={file}{colon(variant.system)}"])
    for variant in variants.values()
  }
  known = {
    system: dict(configs.flatten(config)) for system, config in default.items()
  }
  for key in settings:
    if not any(key in keys for keys in known.values()):
      raise UserError(configs.unknown_key(key, list(default.values())[-1]))
  taken = _taken(settings, known, variants)
  runs, fingerprints = [], {}
  for seed in seeds:
    for row, (system, own) in variants.items():
      if system in (*ITEM_ITEM, PAPER) and seed != seeds[0]:
        continue
      arguments = [f"--config={file}{colon(system)}", f"--config.seed={seed}"]
      arguments += [
        f"--config.{k}={v}" for k, v in {**taken[row], **own}.items()
      ]
      scored = "mmgrec" if system in configs.PRESETS else system
      run = Run(row, scored, seed, out / f"{row}-{seed}", arguments, own)
      config = read_config(arguments)
      check_folder(run.folder, config)
      check_data(run, config, fingerprints)
      runs.append(run)
  return runs


def _taken(
  settings: Mapping[str, str],
  known: Mapping[str, Mapping[str, Any]],
  variants: Mapping[str, Variant],
) -> dict[str, dict[str, str]]:
  """Row -> the settings that its system has and that have an effect on it.

  One without any effect goes to all that have it; they say what it needs.

  Args:
    known: system -> all its settings, as they are without these.
    variants: by row; its own settings count too.
  """
  has = {
    row: {k: v for k, v in settings.items() if k in known[system]}
    for row, (system, _) in variants.items()
  }

  def used(row, key):
    system, own = variants[row]
    values = {**known[system], **has[row], **own}
    return key in has[row] and configs.has_effect(key, values)

  nowhere = {k for k in settings if not any(used(row, k) for row in variants)}
  return {
    row: {k: v for k, v in given.items() if k in nowhere or used(row, k)}
    for row, given in has.items()
  }


def colon(system: str) -> str:
  """What follows a config file's name to choose a system."""
  return "" if system == "mmgrec" else f":{system}"


def read_config(arguments: list[str]) -> configs.Config:
  """What main makes of them."""
  argv = ["main", *arguments]
  values = flags.FlagValues()
  holder = config_flags.DEFINE_config_file(
    "config", flag_values=values, sys_argv=argv
  )
  try:
    values(argv)
    config: Any = holder.value
    configs.check(config)
  except UserError:
    raise
  except Exception as error:  # the config library's many kinds
    raise UserError(explain(arguments, error)) from error
  return config


def check_folder(folder: Path, config: configs.Config) -> None:
  """A folder with another run's settings must not enter the table."""
  file = folder / "config.json"
  if not file.is_file():
    return
  there = read_json(file, AGAIN)
  changes = configs.differences(there, json.loads(configs.to_json(config)))
  if changes:
    raise UserError(
      f"{folder} holds a run with other settings: {'; '.join(changes)}. Give"
      " another --out, or delete that folder."
    )


def check_data(run: Run, config: configs.Config, known: dict[str, str]) -> None:
  """Nor must one with a run on other data than is there now.

  Of data that is gone, what is finished still makes a table.

  Args:
    known: fingerprints of the data sets that were read; what is read is added.
  """
  file = run.folder / "dataset.json"
  synthetic = config.data == "synthetic"
  gone = not synthetic and not (config.data and Path(config.data).is_dir())
  if gone and run.finished:
    return
  if not gone and not file.is_file():
    return
  key = configs.to_json(config.synthetic) if synthetic else config.data
  if key not in known:
    from mmgrec_jax.stages.load import find_data  # with JAX

    known[key] = find_data(config).fingerprint  # or says what is gone
  there = read_json(file, AGAIN, {"fingerprint": str})["fingerprint"]
  if there != known[key]:
    raise UserError(
      f"{run.folder} holds a run on other data than {config.data} is now"
      f" ({there} there, {known[key]} now). Give another --out, or delete that"
      " folder."
    )
