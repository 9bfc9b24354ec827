"""Files that a kill leaves whole: the old one or the new one."""

from pathlib import Path

import numpy as np


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
  """An .npz, atomically."""
  scratch = path.with_name(f"tmp-{path.name}")
  np.savez(scratch, allow_pickle=False, **arrays)
  scratch.replace(path)
