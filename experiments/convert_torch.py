# PyTorch is optional: types are checked where it is installed.
# pyright: reportMissingImports=false

"""A PyTorch MMGRec's weights as parameters of our generator.

    python -m experiments.convert_torch --state_dict=mmgrec.pt --heads=4 \\
      --vocabulary=128,128,128,5 --out=params.npz

Reads tensors only (`weights_only`, or an .npz of arrays): a file that holds
code is refused. Writes an .npz with one array for each parameter, named by its
path, and h_user and h_item as `vectors/user` and `vectors/item`.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from mmgrec_jax.errors import UserError
from mmgrec_jax.models.generator import Generator, Vectors


def converted_model(
  weights: Mapping, vocabulary: Sequence[int], heads: int
) -> Generator:
  """Our generator in the shape of the PyTorch model's weights."""
  width = weights["projection.weight"].shape[1]
  layers = lambda part: len(
    {
      name.split(".")[2]
      for name in weights
      if name.startswith(f"{part}.layers")
    }
  )
  head_width = len(weights["encoder.layers.0.W_Q.weight"]) // heads
  return Generator(
    vocabulary=tuple(vocabulary),
    n_items=len(weights["encoder.src_emb.weight"]) - 1,
    width=width,
    trie_softmax=False,
    encoder_layers=layers("encoder"),
    decoder_layers=layers("decoder"),
    heads=heads,
    encoder_head_width=head_width,
    decoder_head_width=head_width,
    feed_forward=len(weights["encoder.layers.0.pos_ffn.fc.0.weight"]),
  )


def convert(
  weights: Mapping, vocabulary: Sequence[int], heads: int
) -> tuple[dict, Vectors]:
  """Parameters of `converted_model`, and h of users and items.

  PyTorch's side has one vocabulary for all levels, whose last two tokens start
  and end a sequence, and no biases or LayerNorm scales; ours has a table for
  each level. Linear in the weights, so gradients pass through it too.

  Args:
    weights: state_dict name -> array, Linear weights [out, in].
    vocabulary: V_m by level; the first M - 1 are equal.
    heads: H; rows of a head stand together.

  Raises:
    UserError: a weight is missing, a level has more tokens than the model, or
      the first M - 1 differ.
  """
  try:
    return _convert(weights, vocabulary, heads)
  except KeyError as error:
    raise UserError(
      f"The state_dict has no {error.args[0]!r}: it is not of this model."
    ) from error


def _convert(weights, vocabulary, heads):
  tokens_VxD = weights["decoder.tgt_emb.weight"]
  V, D = tokens_VxD.shape
  if max(vocabulary) > V:
    raise UserError(
      f"vocabulary {tuple(vocabulary)}: the model has only {V} tokens."
    )
  if len(set(vocabulary[:-1])) != 1:
    raise UserError(
      f"vocabulary {tuple(vocabulary)}: all levels but the last have as many"
      " tokens."
    )
  L, last, levels = vocabulary[0], vocabulary[-1], len(vocabulary) - 1

  def dense(name):
    kernel = weights[f"{name}.weight"].T
    return {"kernel": kernel, "bias": jnp.zeros(kernel.shape[1])}

  def attention(name, out):
    into = lambda n: weights[f"{name}.W_{n}.weight"].T.reshape(D, heads, -1)
    merge = weights[out + ".weight"].T.reshape(heads, -1, D)
    return {"W_q": into("Q"), "W_k": into("K"), "W_v": into("V"), "W_o": merge}

  def feed(name):
    first, second = (dense(f"{name}.pos_ffn.fc.{i}") for i in (0, 2))
    return {"first": first, "second": second}

  norm = {"LayerNorm_0": {"scale": jnp.ones(D), "bias": jnp.zeros(D)}}

  def encoder_layer(name):
    relation = {"own": attention(name, f"{name}.fc")}
    for n in "qkv":
      relation[f"U_{n}"] = weights[f"{name}.U_{n.upper()}.weight"].T
      first, second = (dense(f"{name}.sca_{n}.{i}") for i in (0, 2))
      relation[f"s_{n}"] = {"Dense_0": first, "Dense_1": second}
    return {
      "RelationAttention_0": relation,
      "FeedForward_0": feed(name),
      "AddAndNorm_0": norm,
      "AddAndNorm_1": norm,
    }

  def decoder_layer(name):
    own, cross = (f"{name}.{n}" for n in ("dec_self_attn", "dec_enc_attn"))
    return {
      "own": attention(own, f"{own}.fc"),
      "cross": attention(cross, f"{cross}.fc"),
      "feed": feed(name),
      **{f"norms_{i}": norm for i in range(3)},
    }

  # Ours multiplies embeddings by sqrt(D), theirs does not.
  start_1xD = tokens_VxD[V - 2 : V - 1]
  table = jnp.concatenate([start_1xD] + [tokens_VxD[:L]] * levels) / D**0.5
  head_DxV = weights["projection.weight"].T
  model = converted_model(weights, vocabulary, heads)
  params = {
    "tokens": {"embedding": table},
    "semantic_heads": jnp.stack([head_DxV[:, :L]] * levels),
    "semantic_bias": jnp.zeros((levels, L)),
    "last_head": {"kernel": head_DxV[:, :last], "bias": jnp.zeros(last)},
  }
  for i in range(model.encoder_layers):
    params[f"encode_layers_{i}"] = encoder_layer(f"encoder.layers.{i}")
  for i in range(model.decoder_layers):
    params[f"decode_layers_{i}"] = decoder_layer(f"decoder.layers.{i}")
  # Row 0 of their item table is padding.
  vectors = Vectors(
    weights["encoder.user_emb.weight"], weights["encoder.src_emb.weight"][1:]
  )
  return params, vectors


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
  """Name -> array of a .pt (needs PyTorch) or .npz file.

  Raises:
    UserError: the file holds anything but arrays, or cannot be read.
  """
  try:
    if path.suffix == ".npz":
      with path.open("rb") as file:
        return dict(np.load(file, allow_pickle=False))
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in state.items()}
  except ImportError as error:
    raise UserError(
      f"{path}: reading it needs PyTorch: pip install 'mmgrec-jax[torch]'."
    ) from error
  except Exception as error:
    raise UserError(f"{path}: not a file of plain arrays: {error}") from error


def main() -> None:
  """The command at the top of this file."""
  parser = argparse.ArgumentParser(prog="experiments.convert_torch")
  parser.add_argument(
    "--state_dict", type=Path, required=True, help=".pt or .npz to read"
  )
  parser.add_argument(
    "--vocabulary", required=True, help="tokens of each level, like 128,128,5"
  )
  parser.add_argument("--heads", type=int, default=4, help="of the model")
  parser.add_argument("--out", required=True, help=".npz to write")
  chosen = parser.parse_args()
  try:
    vocabulary = [int(size) for size in chosen.vocabulary.split(",")]
    if chosen.heads < 1:
      raise UserError(f"--heads={chosen.heads}: 1 or more.")
    weights = read_state_dict(chosen.state_dict)
    params, vectors = convert(weights, vocabulary, chosen.heads)
    params["vectors"] = {"user": vectors.user_UxD, "item": vectors.item_IxD}
    arrays: Any = traverse_util.flatten_dict(params, sep="/")
    np.savez(chosen.out, **arrays)
  except (UserError, ValueError, OSError) as error:
    raise SystemExit(f"error: {error}") from error
  print(f"{chosen.out}: {len(arrays)} arrays")


if __name__ == "__main__":
  main()
