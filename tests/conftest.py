"""All tests run on 4 fake CPU devices, and a rank promotion is an error."""

import dataclasses
import os
import tempfile

# Before JAX starts: 4 devices on 2 cores deadlock with fewer XLA threads.
os.environ.setdefault("NPROC", "8")
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np
import pytest

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Many tests, and the commands they run, compile the same programs.
_CACHE = tempfile.TemporaryDirectory()
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
jax.config.update("jax_compilation_cache_dir", _CACHE.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

from mmgrec_jax.data.dataset import TEST, Dataset  # noqa: E402
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


@pytest.fixture
def one_device(monkeypatch):
  monkeypatch.setattr(parallel, "devices", lambda: jax.local_devices()[:1])


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
      metrics.append(parallel.unreplicate(out))
      step += k
    return parallel.unreplicate(state), metrics

  return run
