"""Several processes as one run: who writes, and what all must agree on.

Every process runs the same program on the same data and sees the same workdir,
on a file system that they share; the first one alone writes and prints. With
one process nothing here costs anything.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from mmgrec_jax.errors import UserError, first_line

# How long a process that has failed waits for others that may have, too.
LEAVE_SECONDS = 10.0


def join(
  address: str | None, processes: int | None, process: int | None
) -> None:
  """Waits for the other processes; before anything else asks JAX something.

  Args: as of `jax.distributed.initialize`; all None: the cluster's environment
    says (Slurm, Open MPI, GKE and Cloud TPU are known to JAX).

  Raises:
    UserError: nothing says where the others are, or they did not come.
  """
  import jax

  # It takes SIGTERM for itself, and nothing here asks it; between stages a
  # signal would be lost.
  jax.config.update("jax_enable_preemption_service", False)
  try:
    jax.distributed.initialize(address, processes, process)
  except Exception as error:  # ValueError, RuntimeError, of each cluster's kind
    raise UserError(
      f"The processes do not find each other ({first_line(error)}); give all"
      " three of --coordinator_address, --num_processes and --process_id, or"
      " start them with the cluster's own launcher."
    ) from error
  if not is_first():
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115


def is_first() -> bool:
  """Whether this process is the one that writes and prints."""
  if alone():
    return True
  import jax

  return jax.process_index() == 0


def alone() -> bool:
  """Whether there is one process; without asking JAX where nothing has."""
  if "jax" not in sys.modules:
    return True
  import jax

  return jax.process_count() == 1


def leave(code: int) -> NoReturn:
  """Ends this process; the others soon too, whatever they wait for.

  JAX would let a process wait minutes for the others at its end.
  """
  if not alone():
    import jax

    together = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    together.start()
    together.join(LEAVE_SECONDS)
    if together.is_alive():
      sys.stderr.flush()
      os._exit(code)
  sys.exit(code)


def wait(what: str) -> None:
  """Until every process has come here, such as after the first has written."""
  if not alone():
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(what)


def in_time(sees: Callable[[], bool]) -> bool:
  """Whether this process sees what the first has written: where files are
  shared over a network, others may see it seconds later."""
  for _ in range(20):
    if sees():
      return True
    time.sleep(0.5)
  return False


def firsts(tree: Any) -> Any:
  """What the first process has (arrays come as NumPy), whatever each sees."""
  if alone():
    return tree
  import jax
  from jax.experimental import multihost_utils

  arrays = jax.tree.map(np.asarray, tree)
  return multihost_utils.broadcast_one_to_all(arrays)


def of_all(tree: Any) -> Any:
  """Arrays [n, ...] of every process, one after the other (NumPy)."""
  if alone():
    return tree
  from jax.experimental import multihost_utils

  return multihost_utils.process_allgather(tree, tiled=True)


def check_same(digest: str, what: str) -> None:
  """Raises UserError on every process where their SHA-256s differ.

  Args:
    digest: in hex.
    what: is named in the message.
  """
  own_1x32 = np.frombuffer(bytes.fromhex(digest), np.uint8)[None]
  every_Px32 = of_all(own_1x32)
  others = np.flatnonzero((every_Px32 != every_Px32[0]).any(axis=1))
  if len(others):
    raise UserError(
      f"{what} of process {others[0]} is not that of process 0; give all the"
      " same."
    )
