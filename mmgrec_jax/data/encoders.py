"""Pretrained encoders of texts and pictures, through the usual libraries.

They are imported when they are asked for: most data sets need none.
"""

import importlib
import textwrap
from pathlib import Path
from types import ModuleType

import numpy as np

from mmgrec_jax.data.encoding import Encoder
from mmgrec_jax.data.pictures import open_picture
from mmgrec_jax.errors import UserError

BATCH = 32


def text_encoder(model: str) -> Encoder:
  """A model of sentence-transformers.

  Raises:
    UserError: the library or the model is not to be had.
  """
  library = _library("sentence_transformers", "--text_model")
  try:
    network = library.SentenceTransformer(model)
  except Exception as error:  # the library, the hub and torch: every kind
    raise UserError(
      f"--text_model={model}: cannot be loaded ({_brief(error)}); give the"
      " folder of a sentence-transformers model or, where the network is"
      " there, its name."
    ) from error

  def encode(texts: list) -> np.ndarray:
    return network.encode(texts, batch_size=BATCH, show_progress_bar=False)

  return Encoder("text", model, lambda text: text, encode)


def image_encoder(model: str) -> Encoder:
  """A model of timm, without its classes.

  Raises:
    UserError: the library or the model is not to be had.
  """
  timm = _library("timm", "--image_model")
  torch = _library("torch", "--image_model")
  source = f"local-dir:{model}" if Path(model).is_dir() else model
  try:
    network = timm.create_model(source, pretrained=True, num_classes=0)
  except Exception as error:  # timm, the hub and torch: every kind
    raise UserError(
      f"--image_model={model}: cannot be loaded ({_brief(error)}); give a"
      " folder with timm's config.json and model.safetensors or, where the"
      " network is there, the name of a model that has weights."
    ) from error
  device = "cuda" if torch.cuda.is_available() else "cpu"
  network = network.to(device).eval()
  settings = timm.data.resolve_model_data_config(network)
  transform = timm.data.create_transform(**settings, is_training=False)

  def encode(pictures: list) -> np.ndarray:
    with torch.inference_mode():
      return torch.cat(
        [
          network(torch.stack(pictures[start : start + BATCH]).to(device)).cpu()
          for start in range(0, len(pictures), BATCH)
        ]
      ).numpy()

  return Encoder(
    "visual", model, lambda path: transform(open_picture(path)), encode
  )


def _library(name: str, flag: str) -> ModuleType:
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise UserError(
      f"{flag} needs {name}, which cannot be imported ({_brief(error)}): pip"
      " install 'mmgrec-jax[features]'."
    ) from error


def _brief(error: Exception) -> str:
  """One line, cut off: libraries add advice for programmers."""
  return textwrap.shorten(str(error) or repr(error), 200, placeholder=" …")
