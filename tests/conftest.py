"""All tests run on 4 fake CPU devices, and a rank promotion is an error."""

import dataclasses
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

# Before JAX starts: 4 devices on 2 cores deadlock with fewer XLA threads.
os.environ.setdefault("NPROC", "8")
os.environ["JAX_PLATFORMS"] = "cpu"
# Most programs here run for milliseconds, and compiling them takes the time.
# What is about exact numbers takes `optimised`.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
# The older emitters compile the same programs in half the time; in all tests.
# Later versions have them no more, and end at a flag that they do not know.
if version("jaxlib").startswith("0.10."):
  os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_cpu_use_fusion_emitters=false"]
  )

import jax
import jax.export
import numpy as np
import pytest

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Many tests, and the commands they run, compile the same programs.
_CACHE = tempfile.TemporaryDirectory()
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
jax.config.update("jax_compilation_cache_dir", _CACHE.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

from mmgrec_jax import pipeline  # noqa: E402
from mmgrec_jax.config import default_config  # noqa: E402
from mmgrec_jax.data.dataset import TEST, Dataset  # noqa: E402
from mmgrec_jax.data.folder import save_dataset  # noqa: E402
from mmgrec_jax.data.synthetic import make_synthetic  # noqa: E402
from mmgrec_jax.training import parallel  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
  """XLA aborts when all compiled programs together map too much memory."""
  yield
  jax.clear_caches()


@pytest.fixture
def rng() -> np.random.Generator:
  return np.random.default_rng(0)


@pytest.fixture(scope="session")
def small_data() -> Dataset:
  return make_synthetic(40, 30, 8, n_tastes=4, seed=1)


@pytest.fixture(scope="session")
def other_test_items(small_data) -> Dataset:
  """`small_data`, test items replaced by ones their user never touched."""
  rng = np.random.default_rng(5)
  item = small_data.item_E.copy()
  for user in range(small_data.n_users):
    of_user = small_data.user_E == user
    fresh = np.setdiff1d(np.arange(small_data.n_items), item[of_user])
    rows = np.flatnonzero(of_user & (small_data.split_E == TEST))
    item[rows] = rng.choice(fresh, len(rows), replace=False)
  return dataclasses.replace(small_data, item_E=item)


class LookedAtTest(AssertionError):
  pass


class NoTest(Dataset):
  """Any question about its test interactions is an error."""

  def edges(self, split):
    return super().edges(self._allowed(split))

  def rows(self, split):
    return super().rows(self._allowed(split))

  def rows_newest_first(self, split):
    return super().rows_newest_first(self._allowed(split))

  def _allowed(self, split):
    if split in (TEST, None):
      raise LookedAtTest
    return split


@pytest.fixture(scope="session")
def no_test(small_data) -> NoTest:
  fields = dataclasses.fields(small_data)
  return NoTest(**{f.name: getattr(small_data, f.name) for f in fields})


@pytest.fixture(scope="module")
def optimised():
  """Programs with the optimisations of a run."""
  jax.config.update("jax_disable_most_optimizations", False)
  yield
  jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session")
def mmgrec_run(small_data, no_test, tmp_path_factory) -> Path:
  """A small finished run that scored validation alone, on `no_test`."""
  folder = tmp_path_factory.mktemp("mmgrec")
  save_dataset(small_data, folder / "data")
  config = default_config()
  config.data, config.width = str(folder / "data"), 8
  config.evaluation.update(
    splits=("valid",), cutoffs=(10,), beam_width=30, valid_beam_width=30
  )
  config.recid.ignore_health = True
  config.embed.epochs = 1
  config.generator.soft_targets.share = 0.0
  config.rqvae.update(
    epochs=1, steps_per_epoch=5, codebook_size=8, hidden=8, latent=4
  )
  config.generator.update(
    epochs=2, heads=1, encoder_head_width=4, decoder_head_width=4,
    feed_forward=8, history_length=6, targets_per_history=2, user_token=True,
    skip_sure=False,  # less to compile
  )  # fmt: skip
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(parallel, "devices", lambda: jax.local_devices()[:1])
    patch.setattr(pipeline.load, "load_data", lambda config: no_test)
    pipeline.run(config, folder / "run")
  return folder / "run"


@pytest.fixture
def one_device(monkeypatch):
  monkeypatch.setattr(parallel, "devices", lambda: jax.local_devices()[:1])


@pytest.fixture
def lower_elsewhere():
  """Lowers a program of all devices for TPU and CUDA; returns the text."""

  def lower(program, *args, static_argnums=()):
    # In a jit, for what pmap returns cannot be exported.
    program = jax.jit(program, static_argnums=static_argnums)
    lowered = jax.export.export(program, platforms=("tpu", "cuda"))(*args)
    assert lowered.nr_devices == 4
    return lowered.mlir_module()

  return lower


@pytest.fixture
def lower_steps(lower_elsewhere):
  """Lowers a task's training as `fit` has it: so many steps in one program."""

  def lower(task, state):
    run = parallel.run_steps(task.step, task.plan, task.steps_per_epoch)
    placed = map(parallel.replicate, (state, task.data))
    text = lower_elsewhere(run, *placed, jax.random.key(0), 2, static_argnums=3)
    assert "stablehlo.while" in text
    return text

  return lower


@pytest.fixture
def train():
  """Runs n steps of a task from its start; returns host state and metrics."""

  def run(task, n):
    run_steps = parallel.run_steps(task.step, task.plan, task.steps_per_epoch)
    state = parallel.replicate(jax.device_get(task.init()))
    data, metrics, step = parallel.replicate(task.data), [], 0
    while step < n:
      k = min(n - step, task.steps_per_epoch - step % task.steps_per_epoch)
      state, out = run_steps(state, data, jax.random.key(1), k)
      out = parallel.unreplicate(out)
      metrics.append({name: rows[:k] for name, rows in out.items()})
      step += k
    return parallel.unreplicate(state), metrics

  return run
