import numpy as np
import pytest

from mmgrec_jax.arrays import read_arrays, write_arrays
from mmgrec_jax.data import encoding
from mmgrec_jax.data.encoding import Encoder, encode_items, forget
from mmgrec_jax.errors import UserError

IDS = np.array([f"i{n}" for n in range(10)])
TEXTS = [f"text {n}" if n % 4 else "" for n in range(10)]  # 0, 4, 8: none


class Fake:
  """Encodes a text as its number and that squared; dies in a given chunk."""

  def __init__(self, model="m", dies_at=None, load=lambda text: text):
    self.seen, self.dies_at, self.calls = [], dies_at, 0
    self.encoder = Encoder("text", model, load, self.encode)

  def encode(self, texts):
    if self.calls == self.dies_at:
      raise KeyboardInterrupt
    self.calls += 1
    self.seen += texts
    numbers = np.array([float(text.split()[1]) for text in texts])
    return np.stack([numbers, numbers**2], axis=1)


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
  monkeypatch.setattr(encoding, "CHUNK", 3)


def expected(texts=TEXTS):
  return [[n, n * n] if text else [0, 0] for n, text in enumerate(texts)]


def killed(folder, dies_at=1):
  with pytest.raises(KeyboardInterrupt):
    encode_items(Fake(dies_at=dies_at).encoder, IDS, TEXTS, folder)


def test_vectors_are_at_their_items_and_items_without_input_get_zeros(tmp_path):
  fake = Fake()
  out = encode_items(fake.encoder, IDS, TEXTS, tmp_path / "p")
  assert out.dtype == np.float32 and out.tolist() == expected()
  assert fake.seen == [text for text in TEXTS if text] and fake.calls == 3


def test_after_a_kill_only_what_was_not_kept_is_encoded(tmp_path, capsys):
  killed(tmp_path, dies_at=2)
  fake = Fake()
  out = encode_items(fake.encoder, IDS, TEXTS, tmp_path)
  assert out.tolist() == expected()
  assert fake.seen == ["text 9"]
  assert f"text: 6 of 7 are in {tmp_path}" in capsys.readouterr().out
  again = Fake()
  assert (
    encode_items(again.encoder, IDS, TEXTS, tmp_path).tolist() == expected()
  )
  assert not again.seen


def test_what_is_kept_is_found_by_item_not_by_row(tmp_path):
  killed(tmp_path)
  fake, order = Fake(), np.arange(10)[::-1]
  texts = [TEXTS[n] for n in order]
  out = encode_items(fake.encoder, IDS[order], texts, tmp_path)
  assert out[order].tolist() == expected()
  assert fake.seen == ["text 9", "text 7", "text 6", "text 5"]
  fewer = encode_items(Fake().encoder, IDS[:3], TEXTS[:3], tmp_path)
  assert fewer.tolist() == expected()[:3]


def test_another_text_another_model_or_other_weights_are_encoded_anew(tmp_path):
  kept, model = tmp_path / "kept", tmp_path / "model"
  model.mkdir()
  (model / "weights").write_text("a")
  first = Fake(str(model))
  encode_items(first.encoder, IDS, TEXTS, kept)
  other_text = Fake(str(model))
  texts = [*TEXTS[:9], "text 77"]
  out = encode_items(other_text.encoder, IDS, texts, kept)
  assert out[9].tolist() == [77, 77**2] and other_text.seen == ["text 77"]
  (model / "weights").write_text("ab")
  for fake in (Fake(str(model)), Fake("another")):
    encode_items(fake.encoder, IDS, TEXTS, kept)
    assert len(fake.seen) == 7


def test_a_picture_that_changed_is_encoded_anew(tmp_path):
  paths = [tmp_path / f"{n}.txt" for n in range(4)]
  for n, path in enumerate(paths):
    path.write_text(f"text {n}")
  fakes = [Fake(load=lambda path: path.read_text()) for _ in range(2)]
  encode_items(fakes[0].encoder, IDS[:4], paths, tmp_path / "p")
  paths[2].write_text("text 222")
  out = encode_items(fakes[1].encoder, IDS[:4], paths, tmp_path / "p")
  assert fakes[1].seen == ["text 222"] and out[2, 0] == 222


def test_faulty_files_are_named_together_and_the_others_are_kept(tmp_path):
  def load(text):
    if text in bad:
      raise UserError("torn")
    return text

  bad = ["text 2", "text 9"]
  with pytest.raises(
    UserError,
    match=r"^text 2, text 9: 2 of 7 files cannot be read .*\(torn\); replace",
  ):
    encode_items(Fake(load=load).encoder, IDS, TEXTS, tmp_path)
  bad.clear()
  fake = Fake(load=load)
  assert encode_items(fake.encoder, IDS, TEXTS, tmp_path).tolist() == expected()
  assert fake.seen == ["text 2", "text 9"]


def test_vectors_that_are_not_finite_are_refused_and_not_kept(tmp_path):
  encoder = Encoder(
    "text", "m", str, lambda texts: np.full((len(texts), 2), np.nan)
  )
  with pytest.raises(UserError, match="m: its text vectors are not finite"):
    encode_items(encoder, IDS, TEXTS, tmp_path)
  assert not list(tmp_path.iterdir())


def test_a_damaged_chunk_is_named(tmp_path):
  killed(tmp_path)
  (chunk,) = tmp_path.iterdir()
  chunk.write_bytes(chunk.read_bytes()[:50])
  with pytest.raises(UserError, match=rf"{chunk.name}: damaged .*delete it"):
    encode_items(Fake().encoder, IDS, TEXTS, tmp_path)


def test_a_chunk_of_another_width_is_named(tmp_path):
  killed(tmp_path, dies_at=2)
  first, second = sorted(tmp_path.iterdir())
  chunk = read_arrays(second, "")
  write_arrays(second, chunk | {"vector": chunk["vector"][:, :1]})
  with pytest.raises(UserError, match=rf"{second.name}: 'vector' .*D = 2 was"):
    encode_items(Fake().encoder, IDS, TEXTS, tmp_path)
  assert first.is_file()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot be written .* place to --out"):
    encode_items(Fake().encoder, IDS, TEXTS, tmp_path / "file" / "p")


def test_only_chunks_are_forgotten(tmp_path):
  folder = tmp_path / "p"
  forget(folder)
  killed(folder)
  (folder / "tmp-chunk-text-0.npz").write_text("cut off")
  (folder / "mine.txt").write_text("")
  forget(folder)
  assert [path.name for path in folder.iterdir()] == ["mine.txt"]
  (folder / "mine.txt").unlink()
  forget(folder)
  assert not folder.exists()
