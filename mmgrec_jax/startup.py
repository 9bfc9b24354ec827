"""What a command sets before JAX starts and reads its environment."""

import os
from pathlib import Path

from absl import logging


def before_jax() -> None:
  """Call before anything imports JAX."""
  logging.set_verbosity(logging.ERROR)
  # More fake CPU devices than cores deadlock with too few XLA threads.
  if "JAX_NUM_CPU_DEVICES" in os.environ:
    os.environ.setdefault("NPROC", "8")
  # Compiled programs are kept: a run on the same machine starts at once.
  cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "mmgrec_jax"))
