from tensorboardX.proto.event_pb2 import Event

from mmgrec_jax.training.writer import Writer


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
