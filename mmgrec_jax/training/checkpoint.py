"""Checkpoints: the last state and the best parameters, saved together."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from mmgrec_jax import arrays, hosts
from mmgrec_jax.errors import UserError, first_line


class SaveFailed(RuntimeError):
  """A checkpoint could not be written: a full disk, most likely."""


def digest(tree: Any) -> str:
  """SHA-256 of a pytree's places, types, shapes and numbers, in hex."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return arrays.digest({jax.tree_util.keystr(k): leaf for k, leaf in leaves})


class Checkpoints:
  """One stage's Orbax folder. Saves are asynchronous and atomic.

  Each has the SHA-256 of what is in it: a disk may give back other numbers
  than were written.
  """

  def __init__(self, folder: str | Path):
    self.folder = Path(folder).absolute()
    options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
    self._manager = ocp.CheckpointManager(self.folder, options=options)
    self._damaged: list[int] = []

  def save(self, step: int, last: Any, best: Any) -> None:
    """Saves host pytrees under `step`; replaces the oldest kept.

    Raises:
      SaveFailed: this save, or the one before, could not be written.
    """
    with self._saving():
      for damaged in self._damaged:
        self._manager.delete(damaged)
      self._damaged.clear()
      if step in self._manager.all_steps():
        return
      args = ocp.args.Composite(
        last=ocp.args.StandardSave(last),
        best=ocp.args.StandardSave(best),
        sha256=ocp.args.JsonSave({"last": digest(last), "best": digest(best)}),
      )
      self._manager.save(step, args=args, force=True)

  def latest(self, last: Any, best: Any) -> tuple[Any, Any] | None:
    """The newest (last, best), shaped like the arguments; None if none.

    Raises:
      UserError: there are some, but none that can be read.
    """
    found = self._newest(last=last, best=best)
    return None if found is None else (found["last"], found["best"])

  def best(self, like: Any) -> Any | None:
    """The newest best parameters, shaped like the argument; None if none.

    Raises:
      UserError: there are some, but none that can be read.
    """
    found = self._newest(best=like)
    return None if found is None else found["best"]

  def _newest(self, **trees: Any) -> dict[str, Any] | None:
    """The newest that can be read; what cannot is reported.

    It stays until the next save: the fault may pass, and who only reads has
    nothing to delete.
    """
    steps = sorted(self._manager.all_steps(), reverse=True)
    same = lambda tree, what: hosts.check_same(
      digest(tree), f"The {what} in {self.folder}"
    )
    same(np.array(steps), "list of checkpoints")
    for step in steps:
      found, reason = self._read(step, trees)
      # Where one process cannot read it, none goes on from it.
      if hosts.of_all(np.array([found is not None])).all():
        same(found["sha256"], "checkpoint")
        return found
      self._damaged.append(step)
      print(
        f"{self.folder}: the checkpoint of step {step} is damaged ({reason});"
        " trying the one before."
      )
    if steps:
      raise UserError(
        f"{self.folder}: no checkpoint can be read ({reason}); if that stays"
        " so, delete this folder, and the same command starts it anew."
      )
    return None

  def _read(self, step: int, trees: dict[str, Any]) -> tuple[Any, str]:
    """What is there, and its `sha256`; or None and the reason."""
    shaped = lambda tree: jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
    args: dict[str, Any] = {
      k: ocp.args.StandardRestore(shaped(t)) for k, t in trees.items()
    }
    args["sha256"] = ocp.args.JsonRestore()
    try:
      found = dict(self._manager.restore(step, args=ocp.args.Composite(**args)))
      digests = dict(found["sha256"])
      found = {name: jax.device_get(found[name]) for name in trees}
    except Exception as error:  # each layer below raises its own kind
      return None, first_line(error)[:200]
    for name, tree in found.items():
      if digest(tree) != digests.get(name):
        return None, f"{name} is not what was saved"
    return {**found, "sha256": digests}, ""

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
      # The one before may still be on its way to the disk.
      with contextlib.suppress(Exception):
        self._manager.wait_until_finished()
      raise SaveFailed(
        f"{self.folder}: a checkpoint could not be written"
        f" ({first_line(error)[:200]}); the one before is whole. Make room,"
        " then the same command goes on."
      ) from error
