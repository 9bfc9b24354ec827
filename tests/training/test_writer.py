import errno
import os
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from mmgrec_jax.training.writer import Writer


def test_a_full_disk_leaves_the_lines_of_finished_stages(tmp_path, monkeypatch):
  path = tmp_path / "metrics.jsonl"
  Writer(path).write("embed", 0, {"loss": 0.5})
  before = path.read_text()
  write_text = Path.write_text

  def full(self, text, **options):
    write_text(self, text[: len(text) // 2], **options)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(Path, "write_text", full)
  with pytest.raises(OSError, match="No space left"):
    Writer(path).rewind("generate", 0)
  assert path.read_text() == before


def events(folder):
  """(step, {name: value}) of every scalar in a folder's one event file."""
  (file,) = folder.iterdir()
  rest, found = file.read_bytes(), []
  while rest:  # length, its checksum, an event, its checksum
    size = int.from_bytes(rest[:8], "little")
    event = Event.FromString(rest[12 : 12 + size])
    found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
    rest = rest[16 + size :]
  return found


def test_tensorboard_gets_the_same_by_stage(tmp_path):
  writer = Writer(tmp_path / "metrics.jsonl", tmp_path / "boards")
  writer.rewind("generate", 2)
  writer.write("generate", 2, {"loss": 0.5, "valid": 0.25})
  writer.close()
  assert events(tmp_path / "boards" / "generate") == [
    (2, "loss", 0.5), (2, "valid", 0.25),
  ]  # fmt: skip
  Writer(tmp_path / "metrics.jsonl").write("generate", 3, {"loss": 0.5})
  assert len(events(tmp_path / "boards" / "generate")) == 2
