"""The libraries themselves, with small models that are made here."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from timm.models import save_for_hf
from transformers import BertConfig, BertModel, BertTokenizerFast

from mmgrec_jax.data import encoders
from mmgrec_jax.data.encoding import encode_items
from mmgrec_jax.errors import UserError

# What the libraries warn of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("default")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "dog", "tea"]


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
  folder = tmp_path_factory.mktemp("text")
  (folder / "vocab.txt").write_text("\n".join(WORDS))
  torch.manual_seed(0)
  config = BertConfig(
    vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1,
    num_attention_heads=2, intermediate_size=8, max_position_embeddings=16,
  )  # fmt: skip
  BertModel(config).save_pretrained(folder / "bert")
  tokens = BertTokenizerFast(vocab_file=str(folder / "vocab.txt"))
  tokens.save_pretrained(folder / "bert")
  bert = modules.Transformer(str(folder / "bert"), max_seq_length=16)
  pooling = modules.Pooling(bert.get_embedding_dimension())
  SentenceTransformer(modules=[bert, pooling]).save(str(folder / "model"))
  return folder / "model"


@pytest.fixture(scope="module")
def image_model(tmp_path_factory):
  folder = tmp_path_factory.mktemp("image")
  torch.manual_seed(0)
  network = timm.create_model("test_efficientnet", num_classes=7)
  save_for_hf(network, str(folder), safe_serialization=True)
  return folder


def test_texts_are_what_the_library_makes_of_them(text_model, tmp_path):
  texts = ["cat dog", "", "tea", "cat dog"]
  encoder = encoders.text_encoder(str(text_model))
  out = encode_items(encoder, np.array(list("abcd")), texts, tmp_path)
  assert out.shape == (4, 8) and not out[1].any()
  np.testing.assert_allclose(out[0], out[3], rtol=1e-6)
  alone = SentenceTransformer(str(text_model)).encode(["tea"])[0]
  np.testing.assert_allclose(out[2], alone, rtol=1e-5, atol=1e-6)


def test_pictures_are_what_the_network_makes_of_them(
  image_model, tmp_path, monkeypatch
):
  monkeypatch.setattr(encoders, "BATCH", 2)
  paths = [tmp_path / f"{name}.png" for name in "abc"]
  for path, colour in zip(paths, ("red", "blue", "red"), strict=True):
    Image.new("RGB", (90, 70), colour).save(path)
  encoder = encoders.image_encoder(str(image_model))
  out = encode_items(
    encoder, np.array(list("abcd")), [*paths, None], tmp_path / "p"
  )
  network = timm.create_model(
    f"local-dir:{image_model}", pretrained=True, num_classes=0
  )
  assert out.shape == (4, network.num_features) and not out[3].any()
  np.testing.assert_allclose(out[0], out[2], rtol=1e-5, atol=1e-6)
  assert np.abs(out[0] - out[1]).max() > 1e-4
  with torch.inference_mode():
    alone = network.eval()(encoder.load(paths[1])[None])[0].numpy()
  np.testing.assert_allclose(out[1], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  ("encoder", "flag"),
  [
    (encoders.text_encoder, "--text_model"),
    (encoders.image_encoder, "--image_model"),
  ],
)
def test_a_folder_without_a_model_is_named(tmp_path, encoder, flag):
  with pytest.raises(UserError, match=f"^{flag}={tmp_path}: cannot be loaded"):
    encoder(str(tmp_path))


def test_weights_that_hold_code_are_refused(image_model, tmp_path, capsys):
  class Code:
    def __reduce__(self):
      return print, ("code ran",)

  config = (image_model / "config.json").read_text()
  (tmp_path / "config.json").write_text(config)
  torch.save({"weight": Code()}, tmp_path / "pytorch_model.bin")
  with pytest.raises(UserError, match="cannot be loaded .weights_only=True"):
    encoders.image_encoder(str(tmp_path))
  assert "code ran" not in capsys.readouterr().out
