"""`prepare` with pretrained encoders, here tiny ones that are made up."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgrec_jax import prepare
from mmgrec_jax.data import encoders, encoding
from mmgrec_jax.data.encoding import Encoder
from mmgrec_jax.data.folder import load_dataset
from mmgrec_jax.data.pictures import open_picture

TEXT = ["--items=items.csv", "--text=title,plot", "--text_model=minilm"]
IMAGES = ["--images=posters", "--image_model=vit"]


class FakeText:
  """A text is its number of letters and of words."""

  calls = 0
  dies_at = -1

  def __call__(self, model):
    return Encoder("text", model, str, self.encode)

  def encode(self, texts):
    self.calls += 1
    if self.calls == self.dies_at:
      raise KeyboardInterrupt
    return np.array([[len(text), len(text.split())] for text in texts])


def mean_colour(model):
  return Encoder(
    "visual",
    model,
    open_picture,
    lambda images: np.stack([np.asarray(x).mean((0, 1)) for x in images]),
  )


@pytest.fixture
def text_encoder(monkeypatch):
  encoder = FakeText()
  monkeypatch.setattr(encoders, "text_encoder", encoder)
  monkeypatch.setattr(encoders, "image_encoder", mean_colour)
  monkeypatch.setattr(encoding, "CHUNK", 2)
  return encoder


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
  """Runs in a folder with clicks on a to e, and posters of e, b and other."""
  monkeypatch.chdir(tmp_path)
  clicks = [f"{user},{item}" for user in "uvw" for item in "abcde"]
  Path("clicks.csv").write_text("\n".join(["user,item", *clicks]) + "\n")
  Path("items.csv").write_text(
    "item,title,plot,poster\nc,Heat,cops and robbers,posters/e.png\n"
    "b,Ted,a bear,posters/gone.png\na,,,\ne,Alien,,posters/b.jpg\n"
  )
  Path("posters").mkdir()
  for name, blue in [("e.png", 10), ("b.jpg", 20), ("other.png", 30)]:
    Image.new("RGB", (4, 4), (0, 0, blue)).save(Path("posters") / name)

  def call(*flags):
    argv = ["--interactions=clicks.csv", "--out=data/mine", *flags]
    code = prepare.main(argv)
    return code, *capsys.readouterr()

  return call


def nothing_written():
  return not Path("data").exists() or not any(Path("data").iterdir())


def test_texts_and_pictures_become_features_of_their_items(run, text_encoder):
  code, out, _ = run(*TEXT, *IMAGES)
  assert code == 0
  data = load_dataset("data/mine")
  assert data.item_ids.tolist() == list("abcde")
  assert data.features["text"].tolist() == [
    [0, 0], [10, 3], [21, 4], [0, 0], [5, 1]
  ]  # fmt: skip
  assert data.features["visual"][[0, 2, 3]].tolist() == [[0, 0, 0]] * 3
  assert data.features["visual"][4].tolist() == [0, 0, 10]
  np.testing.assert_allclose(data.features["visual"][1], [0, 0, 20], atol=2)
  named = [Path(path).name for path in data.pictures]
  assert named == ["", "b.jpg", "", "", "e.png"]
  assert data.titles is not None
  assert data.titles.tolist() == ["a", "Ted", "Heat", "d", "Alien"]
  assert "text: 2 of 5 items have none (zeros)" in out
  assert "visual: 3 of 5 items have none (zeros)" in out
  assert "posters: 1 of 3 pictures are of no item" in out
  assert [path.name for path in Path("data").iterdir()] == ["mine"]


def test_a_column_of_paths_needs_no_text(run, text_encoder):
  code, out, _ = run(
    "--items=items.csv", "--image_column=poster", "--image_model=vit"
  )
  assert code == 0 and "visual: 3 of 5 items have none" in out
  data = load_dataset("data/mine")
  assert data.features.keys() == {"visual"} and data.titles is None
  assert data.features["visual"][2].tolist() == [0, 0, 10]


def test_recboles_folder_may_have_pictures_and_no_text(run, text_encoder):
  Path("r").mkdir()
  rows = [f"{user}\t{item}" for user in "uvw" for item in "abe"]
  head = "user_id:token\titem_id:token"
  Path("r/r.inter").write_text("\n".join([head, *rows]) + "\n")
  head = "item_id:token\tposter:token"
  Path("r/r.item").write_text(f"{head}\ne\t../posters/e.png\n")
  flags = ("--interactions=r", "--image_column=poster", "--image_model=vit")
  code, _, err = run(*flags)
  assert code == 0, err
  visual = load_dataset("data/mine").features["visual"]
  assert visual.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 10]]


def test_a_killed_run_goes_on_and_ends_the_same(run, text_encoder):
  assert run(*TEXT, *IMAGES, "--out=whole")[0] == 0
  text_encoder.calls, text_encoder.dies_at = 0, 2
  with pytest.raises(KeyboardInterrupt):
    run(*TEXT, *IMAGES)
  assert [path.name for path in Path("data").iterdir()] == ["mine.partial"]
  text_encoder.calls, text_encoder.dies_at = 0, -1
  code, out, _ = run(*TEXT, *IMAGES)
  assert code == 0 and "text: 2 of 3 are in" in out
  assert text_encoder.calls == 1
  mine, whole = load_dataset("data/mine"), load_dataset("whole")
  assert mine.fingerprint == whole.fingerprint
  assert [path.name for path in Path("data").iterdir()] == ["mine"]


def test_a_file_that_is_no_picture_is_one_sentence(run, text_encoder):
  Path("posters/b.jpg").write_text("<html>404</html>")
  code, _, err = run(*IMAGES)
  assert code == 2 and err.startswith("error: ") and err.count("\n") == 1
  assert "posters/b.jpg: 1 of 2 files cannot be read as pictures (" in err
  assert not Path("data/mine").exists()
  Path("posters/b.jpg").unlink()
  code, out, _ = run(*IMAGES)
  assert code == 0 and "visual: 4 of 5 items have none" in out


@pytest.mark.parametrize(
  ("flags", "says"),
  [
    ([*TEXT, "--text_width=9"], "--text_width has no effect with --text_model"),
    (["--text_model=m"], "--text_model has no effect without --text;"),
    (["--image_column=poster", "--image_model=vit"],
     "--image_column has no effect without --items;"),
    (["--images=posters"], "--images has no effect without --image_model;"),
    (["--items=items.csv", "--image_column=poster"],
     "--image_column has no effect without --image_model;"),
    (["--image_model=vit"], "without --images or --image_column;"),
    ([*IMAGES, "--items=items.csv", "--image_column=poster"],
     "--images has no effect with --image_column;"),
    ([*IMAGES, "--features=visual=v.csv"], "two are called 'visual'"),
    (["--images=gone", "--image_model=vit"], "gone: no such folder"),
    ([*IMAGES, "--features=acoustic=gone.csv"], "gone.csv: not found"),
    (["--items=items.csv", "--text=art", "--text_model=m"], "no column 'art'"),
  ],
)  # fmt: skip
def test_each_fault_is_one_sentence_before_encoding(
  run, text_encoder, flags, says
):
  code, _, err = run(*flags)
  assert code == 2 and err.count("\n") == 1
  assert says in err
  assert nothing_written() and not text_encoder.calls


@pytest.mark.parametrize(
  ("flags", "library"),
  [(TEXT, "sentence_transformers"), (IMAGES, "timm"), (IMAGES, "torch")],
)
def test_without_the_libraries_it_says_what_to_install(
  run, monkeypatch, flags, library
):
  for name in {"timm", library} - {"sentence_transformers"}:
    there = None if name == library else sys.modules[__name__]
    monkeypatch.setitem(sys.modules, name, there)
  monkeypatch.setitem(sys.modules, library, None)
  code, _, err = run(*flags)
  assert code == 2 and err.count("\n") == 1
  assert f"needs {library}, which cannot be imported" in err
  assert "pip install 'mmgrec-jax[features]'" in err
  assert nothing_written()
