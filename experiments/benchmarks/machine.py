"""What this machine is and can do, measured in the process that asks."""

import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp


def machine_facts(small: bool) -> dict[str, Any]:
  """Facts that a timing means nothing without."""
  n = 256 if small else 2048
  a_NxN = jnp.ones((n, n), jnp.float32)
  product = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
  product(a_NxN).block_until_ready()
  seconds = []
  for _ in range(7):
    start = time.perf_counter()
    product(a_NxN).block_until_ready()
    seconds.append(time.perf_counter() - start)
  affinity = getattr(os, "sched_getaffinity", None)
  facts = {
    "device": jax.devices()[0].device_kind,
    "backend": jax.default_backend(),
    "cores": os.cpu_count(),
    "cores_used": len(affinity(0)) if affinity else os.cpu_count(),
    "matmul_gflops": 2 * n**3 / min(seconds) / 1e9,
    "python": platform.python_version(),
    "jax": jax.__version__,
  }
  for module in ("torch", "faiss"):
    if module in sys.modules:
      facts[module] = sys.modules[module].__version__
  return facts


def peak_bytes() -> int:
  """The most memory that this process has had.

  Not getrusage where there is better: a new process inherits its number.
  """
  status = Path("/proc/self/status")
  if status.is_file():
    (line,) = (x for x in status.read_text().splitlines() if "VmHWM" in x)
    return 1024 * int(line.split()[1])
  import resource

  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == "darwin" else 1024 * peak
