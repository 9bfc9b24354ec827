"""Checkpoints: the last state and the best parameters, saved together."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from mmgrec_jax.errors import first_line


class SaveFailed(RuntimeError):
  """A checkpoint could not be written: a full disk, most likely."""


class Checkpoints:
  """One stage's Orbax folder. Saves are asynchronous and atomic."""

  def __init__(self, folder: str | Path):
    self.folder = Path(folder).absolute()
    options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
    self._manager = ocp.CheckpointManager(self.folder, options=options)

  def save(self, step: int, last: Any, best: Any) -> None:
    """Saves host pytrees under `step`; replaces the oldest kept.

    Raises:
      SaveFailed: this save, or the one before, could not be written.
    """
    if step not in self._manager.all_steps():
      args = ocp.args.Composite(
        last=ocp.args.StandardSave(last), best=ocp.args.StandardSave(best)
      )
      with self._saving():
        self._manager.save(step, args=args, force=True)

  def latest(self, last: Any, best: Any) -> tuple[Any, Any] | None:
    """The newest (last, best), shaped like the arguments; None if none."""
    found = self._newest(last=last, best=best)
    return None if found is None else (found["last"], found["best"])

  def best(self, like: Any) -> Any | None:
    """The newest best parameters, shaped like the argument; None if none."""
    found = self._newest(best=like)
    return None if found is None else found["best"]

  def _newest(self, **trees: Any) -> Any | None:
    """The newest that can be read; what cannot is reported and deleted."""
    shaped = lambda tree: jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
    args = ocp.args.Composite(
      **{k: ocp.args.StandardRestore(shaped(t)) for k, t in trees.items()}
    )
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        return jax.device_get(dict(self._manager.restore(step, args=args)))
      except Exception as error:  # each layer below raises its own kind
        print(
          f"{self.folder}: the checkpoint of step {step} is damaged"
          f" ({first_line(error)[:200]}); going on from the one before, or"
          " anew."
        )
        self._manager.delete(step)
    return None

  def close(self) -> None:
    """Waits until everything is on disk.

    Raises:
      SaveFailed: it could not be written.
    """
    with self._saving():
      self._manager.wait_until_finished()
      self._manager.close()

  @contextlib.contextmanager
  def _saving(self) -> Iterator[None]:
    try:
      yield
    except Exception as error:  # each layer below raises its own kind
      raise SaveFailed(
        f"{self.folder}: a checkpoint could not be written"
        f" ({first_line(error)[:200]}); the one before is whole. Make room,"
        " then the same command goes on."
      ) from error
