"""Writes mmgrec_generator.npz; see README.md. From the repository root:

PYTHONPATH=. python tests/oracles/make_mmgrec_generator.py
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from experiments.torch_reference.layers import Config
from experiments.torch_reference.model import TorchMMGRec

CONFIG = Config(
  n_users=6,
  n_items=30,
  vocabulary=12,
  width=16,
  heads=2,
  head_width=16,
  feed_forward=16,
)
# Rows of the item table: 0 is padding.
HISTORY_UxN = np.array(
  [
    [17, 30, 23, 22, 13, 22, 28, 30],
    [2, 6, 12, 27, 21, 0, 0, 0],
    [17, 0, 0, 0, 0, 0, 0, 0],
    [1, 12, 2, 0, 0, 0, 0, 0],
    [6, 27, 20, 21, 24, 1, 25, 14],
    [24, 28, 10, 3, 30, 11, 0, 0],
  ],
  np.int32,
)


def main() -> None:
  rng = np.random.default_rng(0)
  tokens_UxM = rng.integers(0, CONFIG.vocabulary - 2, (6, 4))
  # Rounded to float32 what is stored, run in float64: exact to the last digit.
  torch.manual_seed(0)
  model = TorchMMGRec(CONFIG).double().eval()
  decoder_UxM1 = np.pad(
    tokens_UxM, [(0, 0), (1, 0)], constant_values=model.start_token
  )
  target_UxM1 = np.pad(
    tokens_UxM, [(0, 0), (0, 1)], constant_values=model.end_token
  )
  user_U = torch.arange(6)
  history_UxN = torch.from_numpy(HISTORY_UxN).long() - 1
  encoder_UxNxD, _ = model.encoder(user_U, history_UxN)
  decoder = torch.from_numpy(decoder_UxM1)
  logits_UxM1xV = model(user_U, history_UxN, decoder[:, None])[:, 0]
  target = torch.from_numpy(target_UxM1)
  loss = F.cross_entropy(logits_UxM1xV.flatten(0, 1), target.flatten())
  loss.backward()
  arrays = {
    "input/history_UxN": HISTORY_UxN,
    "input/decoder_UxM1": decoder_UxM1.astype(np.int32),
    "input/target_UxM1": target_UxM1.astype(np.int32),
    "input/user_U": np.arange(6, dtype=np.int32),
  }
  outputs = {
    "output/encoder_UxNxD": encoder_UxNxD,
    "output/logits_UxM1xV": logits_UxM1xV,
    "output/loss": loss,
  }
  for name, parameter in model.named_parameters():
    outputs[f"param/{name}"] = parameter
    if parameter.grad is not None:
      outputs[f"grad/{name}"] = parameter.grad
  for name, value in outputs.items():
    arrays[name] = value.detach().float().numpy()
  path = Path(__file__).with_name("mmgrec_generator.npz")
  np.savez_compressed(path, **arrays)


if __name__ == "__main__":
  main()
