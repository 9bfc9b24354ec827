"""The command: python -m mmgrec_jax.main --config=configs/ml100k.py

Trains and evaluates MMGRec as a config file says. Any setting can be given as
--config.KEY=VALUE. A killed run goes on with the same command.
"""

import os
import sys
from pathlib import Path

from absl import app, flags, logging

# More fake CPU devices than cores deadlock without more XLA threads.
os.environ.setdefault("NPROC", "8")

from ml_collections import config_flags  # noqa: E402

from mmgrec_jax import config as configs  # noqa: E402
from mmgrec_jax import pipeline  # noqa: E402
from mmgrec_jax.errors import UserError  # noqa: E402
from mmgrec_jax.training.loop import Interrupted, NonFiniteLoss  # noqa: E402

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Experiment, such as configs/kwai.py or configs/kwai.py:paper"
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Default: runs/<config.name>")


def main(argv) -> None:
  del argv
  logging.set_verbosity(logging.WARNING)
  config = _CONFIG.value
  pipeline.run(config, _WORKDIR.value or Path("runs") / config.name)


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  app.run(main)
