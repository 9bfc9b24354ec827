"""A large catalogue on this machine: every stage of a run, a few steps each."""

import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.graph import Size
from experiments.benchmarks.machine import peak_bytes
from experiments.benchmarks.models import Case, made_up_data
from experiments.benchmarks.scale_in_shape import settings
from mmgrec_jax import pipeline
from mmgrec_jax.data.dataset import TRAIN, Rows
from mmgrec_jax.decoding.trie import build_trie
from mmgrec_jax.errors import UserError
from mmgrec_jax.recid.assign import RecIds, assign_rec_ids
from mmgrec_jax.recid.quality import r_squared
from mmgrec_jax.stages import embed, generate, rec_ids
from mmgrec_jax.stages.rankers import Search
from mmgrec_jax.training import parallel, quantizing
from mmgrec_jax.training.loop import Task
from mmgrec_jax.workdir import Workdir

FULL = Size(200_000, 1_000_000, 5_000_000, 0.7)
SMALL = Size(300, 1_500, 3_000, 0.7)
FEATURES = 64
STEPS = 3
USERS = 128  # recommended to
# Items whose semantic tokens and Rec-IDs are made.
ASSIGNED, SMALL_ASSIGNED = 10_000_000, 3_000


class Clock:
  """Seconds of one part after another, and the process's peak after each."""

  def __init__(self):
    self.parts: dict[str, dict[str, float]] = {}
    self._since = time.perf_counter()

  def lap(self, part: str) -> None:
    seconds = time.perf_counter() - self._since
    gib = peak_bytes() / 2**30
    self.parts[part] = {"seconds": seconds, "peak_gib": gib}
    print(f"  {part}: {seconds:.1f} s, peak {gib:.2f} GiB", flush=True)
    self._since = time.perf_counter()


def few_steps(task: Task, key: jax.Array) -> tuple[Any, dict[str, float]]:
  """STEPS steps in the place of training.

  Without validation: nothing is held out, for ranking a million items for each
  of 200,000 users is another kind of work.

  Returns:
    the parameters (host); seconds to compile, and of a step, and GiB.
  """
  state, data = map(parallel.replicate, (task.init(), task.data))
  run = parallel.run_steps(task.step, task.plan, task.steps_per_epoch)
  times = [time.perf_counter()]
  bytes_ = parallel.memory(run, state, data, key, STEPS)  # compiles
  times.append(time.perf_counter())
  state, metrics = jax.block_until_ready(run(state, data, key, STEPS))
  times.append(time.perf_counter())
  if not np.isfinite(parallel.unreplicate(metrics)["loss"]).all():
    raise UserError(f"{task.name}: the loss is not finite.")
  return parallel.unreplicate(state.params), {
    "compiling_seconds": times[1] - times[0],
    "step_seconds": (times[2] - times[1]) / STEPS,
    "gib": bytes_ / 2**30,
  }


def run_stages(small: bool) -> dict[str, Any]:
  """The stages of `pipeline.train_mmgrec`, STEPS steps each; beam search."""
  clock, steps, config = Clock(), {}, settings(small)
  config.recid.ignore_health = True  # A few steps make no good ones.
  size = SMALL if small else FULL
  data = made_up_data(Case(size, {"text": FEATURES}, config.embed.batch_size))
  clock.lap("data set")

  def instead_of_training(task, schedule, key):
    del schedule
    clock.lap({
      "embed": "graph",
      "rqvae": "h of everyone, k-means",
      "generate": "histories",
    }[task.name])  # fmt: skip
    params, steps[task.name] = few_steps(task, key)
    clock.lap(f"{task.name}: start, {STEPS} steps")
    return params

  with tempfile.TemporaryDirectory() as scratch:
    folder = Workdir(scratch, config, data, rehearse=instead_of_training)
    vectors = embed.embed(config, data, folder)
    clock.lap("semantic tokens, vectors saved")
    ids = rec_ids.make_rec_ids(config, data, folder)
    clock.lap("Rec-IDs")
    trie = jax.block_until_ready(build_trie(ids, config.generator.trie))
    clock.lap("trie")
    model = generate.build_generator(config, ids, vectors)
    params = generate.train_generator(
      config, data, folder, model, vectors, trie
    )
  search = Search(params, vectors, trie)
  ranker, _ = pipeline.beam_system(config, data, model, search)
  users = np.random.default_rng(1).choice(data.n_users, USERS, replace=False)
  items_NxK, _ = ranker(parallel.replicate(search), users)
  clock.lap(f"beam search for {USERS} users, compiled")
  faults = {
    "Rec-IDs that another item has": shared_rec_ids(ids),
    **faults_of_lists(items_NxK, users, data.rows(TRAIN), data.n_items),
  }
  check(faults)
  return {
    "users": data.n_users,
    "items": data.n_items,
    "interactions": len(data.user_E),
    "longest_history": int(data.rows(TRAIN).lengths.max()),
    "fan_out": config.embed.fan_out,
    "beam_width": items_NxK.shape[1],
    "parts": clock.parts,
    "steps": steps,
    "faults": faults,
  }


def shared_rec_ids(ids: RecIds) -> int:
  """Items whose Rec-ID an item before them has; counted by another way."""
  different = set(map(bytes, np.ascontiguousarray(ids.tokens_IxM)))
  return len(ids.tokens_IxM) - len(different)


def faults_of_lists(
  items_NxK: np.ndarray, users: np.ndarray, seen: Rows, n_items: int
) -> dict[str, int]:
  """How many recommended items should not be where they are.

  Every user has more unseen items than a list is long: none ends early.
  """
  invalid = (items_NxK < 0) | (items_NxK >= n_items)
  ordered_NxK = np.sort(items_NxK, axis=1)
  rows = map(seen.of, users)
  pairs = zip(items_NxK, rows, strict=True)
  return {
    "no item": int(invalid.sum()),
    "seen before": sum(int(np.isin(own, row).sum()) for own, row in pairs),
    "twice in a list": int((np.diff(ordered_NxK, axis=1) == 0).sum()),
  }


def check(faults: dict[str, int]) -> None:
  """Raises UserError where there is a fault."""
  found = [f"{name}: {n:,}" for name, n in faults.items() if n]
  if found:
    raise UserError(f"The results are wrong. {'; '.join(found)}.")


def assign(small: bool) -> dict[str, Any]:
  """Semantic tokens, Rec-IDs and trie of random h, of ASSIGNED items.

  The RQ-VAE stands where it starts: k-means of its latents.
  """
  clock, items = Clock(), SMALL_ASSIGNED if small else ASSIGNED
  config = settings(small)
  key, rng = jax.random.key(0), np.random.default_rng(0)
  # NumPy's: those of JAX would need more memory than all that follows.
  x_IxD = jnp.asarray(rng.standard_normal((items, config.width), np.float32))
  clock.lap("random h")
  model = embed.build_rqvae(config)
  params = quantizing.init_rqvae(model, x_IxD, "kmeans", key, seed=0)
  clock.lap("k-means")
  codes, error_I = quantizing.quantize(model, params, x_IxD)
  clock.lap("semantic tokens")
  r2 = r_squared(np.asarray(x_IxD), error_I)
  clock.lap("R^2")
  popularity_I = rng.integers(0, 9, items, np.int32)
  ids = assign_rec_ids(codes, config.rqvae.codebook_size, popularity_I)
  clock.lap("Rec-IDs, checked")
  trie = jax.block_until_ready(build_trie(ids, config.generator.trie))
  clock.lap("trie")
  bytes_ = trie.mask_bytes() + trie.catalogue_bytes()
  return {
    "items": items,
    "r2": r2,
    "last_vocabulary": ids.vocabulary[-1],
    "trie_bytes": bytes_,
    "parts": clock.parts,
  }
