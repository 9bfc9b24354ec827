"""metrics.jsonl: one line an epoch, for programs to read; and TensorBoard."""

import contextlib
import json
from pathlib import Path

from mmgrec_jax import hosts
from mmgrec_jax.files import write_text


def read_log(path: Path) -> list[dict]:
  """The lines up to one that a kill has cut short; none where no file is."""
  lines = []
  for text in path.read_bytes().splitlines() if path.is_file() else ():
    line = None
    with contextlib.suppress(ValueError, RecursionError):
      line = json.loads(text)
    if not isinstance(line, dict) or "stage" not in line:
      break
    if not isinstance(line.get("epoch"), int):
      break
    lines.append(line)
  return lines


class Writer:
  """Appends JSON lines; a resumed stage first drops what it will redo."""

  def __init__(self, path: str | Path, boards: Path | None = None):
    """Args: boards: folder of TensorBoard files, a run a stage; None: none."""
    self.path = Path(path)
    self._boards, self._board = boards, None

  def rewind(self, stage: str, epoch: int) -> None:
    """Keeps of `stage` only the epochs before `epoch`."""
    if not hosts.is_first():
      return
    kept = [
      line
      for line in read_log(self.path)
      if line["stage"] != stage or line["epoch"] < epoch
    ]
    write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
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
