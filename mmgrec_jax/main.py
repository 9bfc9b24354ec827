"""Trains and evaluates MMGRec, or another system, as a config file says.

    python -m mmgrec_jax.main --config=configs/ml100k.py
    python -m mmgrec_jax.main --config=configs/kwai.py:paper --config.seed=3
    python -m mmgrec_jax.main --config=configs/kwai.py:lightgcn

Any setting can be given as --config.KEY=VALUE. Killed at any moment, the same
command goes on where it was. Exit codes: 0 done, 1 failed, 2 wrong input or
settings, 128 + n stopped by signal n.
"""

import shlex
import sys
from pathlib import Path
from typing import NoReturn

from absl import app, flags
from ml_collections import config_flags

from mmgrec_jax import config as configs
from mmgrec_jax import hosts
from mmgrec_jax.errors import UserError
from mmgrec_jax.startup import before_jax

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Experiment: configs/kwai.py, or configs/kwai.py:paper."
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder of the run; default runs/<config.name>."
)
_DRY_RUN = flags.DEFINE_bool(
  "dry_run",
  False,
  "A few steps of each stage: memory, time; nothing is written.",
)
_TENSORBOARD = flags.DEFINE_bool(
  "tensorboard", False, "Epochs for TensorBoard too, in WORKDIR/tensorboard."
)


_MULTIHOST = flags.DEFINE_bool(
  "multihost",
  False,
  "One of several processes, as the cluster's own environment says.",
)
_ADDRESS = flags.DEFINE_string(
  "coordinator_address", None, "HOST:PORT of the first of several processes."
)
_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many there are.")
_PROCESS = flags.DEFINE_integer("process_id", None, "Which of them, from 0.")


def main(argv: list[str]) -> None:
  """Runs the pipeline; errors a person can mend come without a traceback."""
  del argv
  before_jax()
  from mmgrec_jax import pipeline
  from mmgrec_jax.training.checkpoint import SaveFailed
  from mmgrec_jax.training.loop import Diverged
  from mmgrec_jax.training.signals import Interrupted

  config = _CONFIG.value
  try:
    others = (_ADDRESS.value, _PROCESSES.value, _PROCESS.value)
    if _MULTIHOST.value or any(flag is not None for flag in others):
      hosts.join(*others)
    if _DRY_RUN.value:
      pipeline.dry_run(config)
      return
    workdir = _WORKDIR.value or Path("runs") / config.name
    pipeline.run(config, workdir, _TENSORBOARD.value)
    if "generator" in config:
      print(f"Try next, the generator trained for longer:\n  {longer(config)}")
  except UserError as error:
    _leave(error, 2)
  except (Diverged, SaveFailed) as error:
    _leave(error, 1)
  except OSError as error:
    _leave(
      f"{error.filename or 'a file'}: {error.strerror}. Once that is mended,"
      " the same command goes on.",
      1,
    )
  except Interrupted as error:
    _leave(error, 128 + error.signal)


def longer(config: configs.Config) -> str:
  """This command with twice the generator's epochs, in a workdir of its own."""
  flag = flags.FLAGS["config"]
  epochs = 2 * config.generator.epochs
  changes = {
    **config_flags.get_override_values(flag),
    "generator.epochs": epochs,
  }
  settings = [f"--config.{key}={value}" for key, value in changes.items()]
  return shlex.join(
    [
      *("python", "-m", "mmgrec_jax.main"),
      f"--config={config_flags.get_config_filename(flag)}",
      *settings,
      f"--workdir=runs/{config.name}-{epochs}",
    ]
  )


def _leave(error: Exception | str, code: int) -> NoReturn:
  print(f"\nerror: {error}", file=sys.stderr)
  hosts.leave(code)


def parse_flags(argv: list[str]) -> list[str]:
  """Reads the command line; a bad setting becomes one sentence."""
  try:
    rest = flags.FLAGS(argv)
    if _CONFIG.value is None:
      raise UserError("give --config=FILE, such as configs/ml100k.py.")
    # A file that cannot be read shows only when the config is looked at.
    _ = _CONFIG.value.name
    return rest
  except Exception as error:
    _leave(explain(argv, error), 2)


def explain(argv: list[str], error: Exception) -> str:
  """The config library's errors name no fix; find what was meant."""
  if isinstance(error, OSError):
    return "--config: no such file; those that come with this are in configs/."
  # An error inside a config file arrives with its traceback as the message.
  last_line = str(error).strip().splitlines()[-1]
  message = last_line.removeprefix("mmgrec_jax.errors.UserError: ")
  preset = ""
  for argument in argv:
    _, _, file = argument.partition("--config=")
    preset = file.partition(":")[2] or preset
  try:
    like = configs.default_config(*configs.chosen(preset))
  except UserError:
    return message
  known = dict(configs.flatten(like))
  for argument in argv:
    flag, _, key = argument.lstrip("-").partition("=")[0].partition(".")
    if flag == "config" and key and key not in known:
      return configs.unknown_key(key, like)
  return message


def help_text() -> str:
  """Every setting and its default, for --help."""
  lines = [
    f"  --config.{key}={value}"
    for key, value in configs.flatten(
      configs.default_config("mmgrec", configs.EMBEDDING)
    )
  ]
  return (
    "\nAfter the colon: nothing for MMGRec, 'paper' for it with the paper's"
    " settings,\n'embedding=NAME' for it on another model's vectors (gcn is the"
    " paper's), or\nanother system:\n  "
    + ", ".join(configs.SYSTEMS)
    + "\n\nMMGRec's settings and their defaults (config/defaults.py explains"
    " them; model.*\nare those of its embedding; TIGER has none; the other"
    " systems', as\n--config.model.KEY=VALUE, are in models/settings.py):\n"
    + "\n".join(lines)
  )


if __name__ == "__main__":
  __doc__ = f"{__doc__}{help_text()}"
  app.run(main, flags_parser=parse_flags)
