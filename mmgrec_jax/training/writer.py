"""metrics.jsonl: one line an epoch, for programs to read; and TensorBoard."""

import contextlib
import json
from pathlib import Path

from mmgrec_jax import hosts


class Writer:
  """Appends JSON lines; a resumed stage first drops what it will redo."""

  def __init__(self, path: str | Path, boards: Path | None = None):
    """Args: boards: folder of TensorBoard files, a run a stage; None: none."""
    self.path = Path(path)
    self._boards, self._board = boards, None

  def _lines(self) -> list[dict]:
    if not self.path.is_file():
      return []
    lines = []
    for text in self.path.read_bytes().splitlines():
      line = None  # where a kill has cut it short; what follows is redone
      with contextlib.suppress(ValueError, RecursionError):
        line = json.loads(text)
      if not isinstance(line, dict) or not isinstance(line.get("epoch"), int):
        break
      lines.append(line)
    return lines

  def rewind(self, stage: str, epoch: int) -> None:
    """Keeps of `stage` only the epochs before `epoch`."""
    if not hosts.is_first():
      return
    kept = [
      line
      for line in self._lines()
      if line.get("stage") != stage or line["epoch"] < epoch
    ]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    # A kill, or a full disk, leaves the old lines.
    scratch = self.path.with_name(f"{self.path.name}.tmp")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(self.path)
    if self._boards is not None:
      from tensorboardX import SummaryWriter

      self._board = SummaryWriter(
        str(self._boards / stage), purge_step=epoch, flush_secs=10
      )

  def write(self, stage: str, epoch: int, values: dict) -> None:
    if not hosts.is_first():
      return
    line = json.dumps({"stage": stage, "epoch": epoch, **values})
    with self.path.open("a", encoding="utf-8") as file:
      file.write(line + "\n")
    if self._board is not None:
      for name, value in values.items():
        self._board.add_scalar(name, value, epoch)

  def close(self) -> None:
    """Waits until everything is on disk."""
    if self._board is not None:
      self._board.close()
