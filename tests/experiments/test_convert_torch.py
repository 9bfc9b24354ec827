import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from experiments.convert_torch import (
  convert,
  converted_model,
  read_state_dict,
)
from mmgrec_jax.errors import UserError

ROOT = Path(__file__).parents[2]
ORACLE = dict(np.load(ROOT / "tests" / "oracles" / "mmgrec_generator.npz"))
VOCABULARY, HEADS = (12,) * 5, 2  # E is a fifth token
USER_U = ORACLE["input/user_U"]
HISTORY_UxN = ORACLE["input/history_UxN"] - 1
TARGET_Ux1xM = ORACLE["input/target_UxM1"][:, None]


def part(prefix):
  """The arrays whose names begin with PREFIX/, without it."""
  return {
    name[len(prefix) + 1 :]: array
    for name, array in ORACLE.items()
    if name.startswith(f"{prefix}/")
  }


WEIGHTS = part("param")


def make_model(folded):
  return converted_model(WEIGHTS, VOCABULARY, HEADS).clone(folded=folded)


def loss_and_logits(weights, folded):
  """Differentiable in the PyTorch-named weights."""
  params, vectors = convert(weights, VOCABULARY, HEADS)
  semantic, last = make_model(folded).apply(
    {"params": params}, vectors, USER_U, HISTORY_UxN, TARGET_Ux1xM, train=False
  )
  logits_UxMxV = jnp.concatenate([semantic[:, 0], last], axis=1)
  log_p = jnp.take_along_axis(
    jax.nn.log_softmax(logits_UxMxV), TARGET_Ux1xM[:, 0, :, None], axis=-1
  )
  return -log_p.mean(), logits_UxMxV


def close(found, expected, atol=1e-5, name=""):
  np.testing.assert_allclose(found, expected, rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("folded", [True, False])
def test_logits_loss_and_gradients_equal_the_published_model(folded):
  (loss, logits_UxMxV), gradient = jax.jit(
    jax.value_and_grad(loss_and_logits, has_aux=True), static_argnums=1
  )(WEIGHTS, folded)
  close(loss, ORACLE["output/loss"])
  close(logits_UxMxV, ORACLE["output/logits_UxM1xV"])
  expected = part("grad")
  for name, array in expected.items():
    # So that 0 would not pass below.
    assert np.abs(array).max() > 5e-6, name
    close(gradient[name], array, atol=3e-7, name=name)
  # The rest is frozen, or never used.
  frozen = {"encoder.src_emb.weight", "encoder.user_emb.weight"}
  unused = set(WEIGHTS) - set(expected) - frozen
  assert all("enc_self_attn" in name for name in unused)
  assert all((gradient[name] == 0).all() for name in unused)


def test_encoder_output_equals_the_published_model():
  params, vectors = convert(WEIGHTS, VOCABULARY, HEADS)
  memory = make_model(folded=True).apply(
    {"params": params}, vectors, USER_U, HISTORY_UxN, False, method="encode"
  )
  # Folded, what the decoder sees is the encoder's output itself.
  encoded_UxNxD = memory.layers[0][0][:, :, 0]
  # Theirs computes something for padding too, which nothing reads.
  real_UxN = HISTORY_UxN >= 0
  close(encoded_UxNxD[real_UxN], ORACLE["output/encoder_UxNxD"][real_UxN])


def test_parameters_are_those_the_model_makes_itself():
  model = make_model(folded=True)
  params, vectors = convert(WEIGHTS, VOCABULARY, HEADS)
  made = jax.eval_shape(
    lambda vectors: model.init(
      jax.random.key(0), vectors, USER_U, HISTORY_UxN, TARGET_Ux1xM, train=False
    ),
    vectors,
  )
  shapes = lambda tree: {
    path: leaf.shape for path, leaf in traverse_util.flatten_dict(tree).items()
  }
  assert shapes(params) == shapes(made["params"])


def test_missing_weight_is_named():
  weights = dict(WEIGHTS)
  del weights["encoder.layers.1.U_K.weight"]
  with pytest.raises(UserError, match="no 'encoder.layers.1.U_K.weight'"):
    convert(weights, VOCABULARY, HEADS)


def test_level_with_more_tokens_than_the_model_is_refused():
  with pytest.raises(UserError, match="the model has only 12 tokens"):
    convert(WEIGHTS, (12, 12, 12, 13), HEADS)


def test_levels_of_different_sizes_are_refused():
  with pytest.raises(UserError, match="all levels but the last have as many"):
    convert(WEIGHTS, (10, 9, 10, 4), HEADS)


def test_npz_of_arrays_is_read_and_one_of_objects_is_refused(tmp_path):
  path = tmp_path / "weights.npz"
  np.savez(path, **{"a.weight": np.arange(3.0)})
  np.testing.assert_array_equal(read_state_dict(path)["a.weight"], [0, 1, 2])
  np.savez(path, a=np.array([{"code": 1}]))
  with pytest.raises(UserError, match="not a file of plain arrays"):
    read_state_dict(path)


def run_command(state_dict, vocabulary, out, heads=2):
  return subprocess.run(
    [
      *(sys.executable, "-m", "experiments.convert_torch", f"--heads={heads}"),
      *(f"--state_dict={state_dict}", f"--vocabulary={vocabulary}"),
      f"--out={out}",
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )


def test_command_writes_the_converted_parameters(tmp_path):
  source, out = tmp_path / "weights.npz", tmp_path / "params.npz"
  np.savez(source, **WEIGHTS)
  done = run_command(source, "10,10,10,4", out)
  assert done.returncode == 0, done.stderr
  params, vectors = convert(WEIGHTS, (10, 10, 10, 4), HEADS)
  expected = traverse_util.flatten_dict(params, sep="/")
  expected["vectors/user"] = vectors.user_UxD
  expected["vectors/item"] = vectors.item_IxD
  found = np.load(out)
  assert set(found.files) == set(expected)
  for name, array in expected.items():
    np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_command_refuses_other_weights_in_one_line(tmp_path):
  source, out = tmp_path / "weights.npz", tmp_path / "params.npz"
  np.savez(source, **{"linear.weight": np.zeros((2, 2))})
  done = run_command(source, "10,10,10,4", out)
  assert done.returncode == 1
  assert done.stderr.startswith("error: The state_dict has no")
  assert not out.exists()


def test_command_names_a_bad_flag(tmp_path):
  source = tmp_path / "weights.npz"
  np.savez(source, **WEIGHTS)
  done = run_command(source, "10,10,10,4", tmp_path / "gone" / "params.npz")
  assert done.returncode == 1 and "Traceback" not in done.stderr
  assert "gone" in done.stderr
  done = run_command(source, "10,10,10,4", tmp_path / "params.npz", heads=0)
  assert done.stderr == "error: --heads=0: 1 or more.\n"
