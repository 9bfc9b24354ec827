"""Checkpoints: the last state and the best parameters, saved together."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp


class Checkpoints:
  """One stage's Orbax folder. Saves are asynchronous and atomic."""

  def __init__(self, folder: str | Path):
    self.folder = Path(folder).absolute()
    options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
    self._manager = ocp.CheckpointManager(self.folder, options=options)

  def save(self, step: int, last: Any, best: Any) -> None:
    """Saves host pytrees under `step`; replaces the oldest kept."""
    if step not in self._manager.all_steps():
      args = ocp.args.Composite(
        last=ocp.args.StandardSave(last), best=ocp.args.StandardSave(best)
      )
      self._manager.save(step, args=args, force=True)

  def latest(self, last: Any, best: Any) -> tuple[Any, Any] | None:
    """The newest (last, best), shaped like the arguments; None if none."""
    step = self._manager.latest_step()
    if step is None:
      return None
    restored = self._restore(step, last=last, best=best)
    return restored["last"], restored["best"]

  def best(self, like: Any) -> Any | None:
    """The newest best parameters, shaped like the argument; None if none."""
    step = self._manager.latest_step()
    return None if step is None else self._restore(step, best=like)["best"]

  def _restore(self, step: int, **trees: Any) -> Any:
    shaped = lambda tree: jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
    args = ocp.args.Composite(
      **{k: ocp.args.StandardRestore(shaped(t)) for k, t in trees.items()}
    )
    return jax.device_get(dict(self._manager.restore(step, args=args)))

  def close(self) -> None:
    """Waits until everything is on disk."""
    self._manager.wait_until_finished()
    self._manager.close()
