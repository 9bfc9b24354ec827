"""Programs compiled for a catalogue whose tables are never made.

Interactions, Rec-IDs and trie are made for real, by the functions of a run; of
what has a row of floats for each item or user there are only the shapes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.trie import make_rec_ids
from mmgrec_jax import config as configs
from mmgrec_jax.data import neighbours, sampling
from mmgrec_jax.data.dataset import Rows
from mmgrec_jax.decoding.trie import Trie, build_trie
from mmgrec_jax.errors import UserError
from mmgrec_jax.models.generator import Vectors
from mmgrec_jax.recid.assign import RecIds
from mmgrec_jax.stages import embed, generate, rankers
from mmgrec_jax.training import embedding, generating, parallel, quantizing
from mmgrec_jax.training.loop import Task

KEY = jax.random.key(0)


class Size(NamedTuple):
  """features: width of what is known of an item.

  mean_history: training items of a user.
  """

  n_users: int
  n_items: int
  features: int
  mean_history: int
  shards: tuple[int, ...]


FULL = Size(1_000_000, 10_000_000, 64, 20, (1, 2, 4, 8))
SMALL = Size(3_000, 40_000, 16, 5, (1, 8))


class Catalogue(NamedTuple):
  """What the programs are compiled for. vectors: shapes alone."""

  size: Size
  rows: Rows
  rec_ids: RecIds
  trie: Trie
  vectors: Vectors


def settings(small: bool) -> configs.Config:
  """The defaults of `embedding=gcn`, and what a large catalogue needs."""
  config = configs.default_config()
  config.embed.fan_out = (10, 5)
  config.rqvae.codebook_size = 256
  if small:  # Batches must not need more than the tables.
    config.embed.update(batch_size=64, layers=1, fan_out=(5,))
    config.rqvae.update(batch_size=64, codebook_size=32)
    config.generator.batch_size = config.evaluation.batch_size = 8
    config.generator.soft_targets.share = 0.0
    config.evaluation.beam_width = 10
  return config


def floats(*shape: int) -> Any:
  return jax.ShapeDtypeStruct(shape, jnp.float32)


def shapes(tree: Any) -> Any:
  """Of an array, its shape."""
  return jax.eval_shape(lambda a: a, tree)


def make_catalogue(config: configs.Config, size: Size) -> Catalogue:
  """Users with skewed numbers of items, items with random semantic tokens."""
  rng = np.random.default_rng(0)
  mean_U = rng.exponential(size.mean_history - 1, size.n_users)
  lengths_U = 1 + rng.poisson(mean_U)
  offset = np.concatenate([[0], np.cumsum(lengths_U)]).astype(np.int32)
  items = rng.integers(0, size.n_items, offset[-1], np.int32)
  ids = make_rec_ids("uniform", size.n_items, config.rqvae.codebook_size)
  vectors = Vectors(
    floats(size.n_users, config.width), floats(size.n_items, config.width)
  )
  trie = build_trie(ids, config.generator.trie)
  return Catalogue(size, Rows(offset, items), ids, trie, vectors)


def gcn_step(config: configs.Config, of: Catalogue) -> int:
  """A step of the GCN and the RQ-VAE, on sampled neighbourhoods."""
  size: Any = of.size
  data = embedding.EmbeddingData(
    shapes(neighbours.users_of(of.rows, size.n_items)),
    floats(size.n_items, size.features),
    shapes(sampling.on_device(of.rows, size.n_items)),
  )
  make = lambda data: embedding.embedding_task(
    embed.build_encoder(config, size), embed.build_rqvae(config), data,
    config.embed, config.rqvae, quantize_features=False, validate=None,
    key=KEY, seed=0,
  )  # fmt: skip
  return step_memory(make(data), jax.eval_shape(lambda d: make(d).init(), data))


def rqvae_step(config: configs.Config, of: Catalogue) -> int:
  """A step of the RQ-VAE on the final h."""
  model, start = embed.build_rqvae(config), config.rqvae.codebook_start
  row = jnp.zeros((1, config.width))
  params = quantizing.init_rqvae(model, row, start, KEY, seed=0)
  x: Any = of.vectors.item_IxD
  task = quantizing.rqvae_task(model, x, params, config.rqvae)
  return step_memory(task, jax.eval_shape(task.init))


def generator_step(config: configs.Config, of: Catalogue) -> int:
  """A step of the generator, soft targets too."""
  chosen = config.generator
  model = generate.build_generator(config, of.rec_ids, of.vectors)
  data = jax.eval_shape(
    lambda vectors, trie: generating.generator_data(
      vectors, trie, of.rows, chosen.targets_per_history, chosen.user_token
    ),
    of.vectors,
    shapes(of.trie),
  )
  make = lambda data: generating.generator_task(model, data, chosen, None, KEY)
  return step_memory(make(data), jax.eval_shape(lambda d: make(d).init(), data))


def beam_search(config: configs.Config, of: Catalogue) -> int:
  """Recommending to as many users as all devices handle at a time."""
  width = config.evaluation.beam_width
  model = generate.build_generator(config, of.rec_ids, of.vectors)
  params = jax.eval_shape(
    lambda vectors: generating.init_params(model, vectors, KEY), of.vectors
  )
  recommend = rankers.beams_of(config, model, width)

  def of_share(search, users):
    share = lambda a: parallel.my_share(a, parallel.axis())
    return recommend(search, *map(share, users))

  batch = config.evaluation.batch_size * len(parallel.devices())
  longest = int(of.rows.lengths.max())
  ints = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
  history_BxH = ints(batch, longest)
  users = (ints(batch), history_BxH, history_BxH)
  search = rankers.Search(params, of.vectors, shapes(of.trie))
  return parallel.memory(
    parallel.everywhere(of_share), *parallel.replicate((search, users))
  )


PROGRAMS: dict[str, Callable[[configs.Config, Catalogue], int]] = {
  "GCN step": gcn_step,
  "RQ-VAE step": rqvae_step,
  "generator step": generator_step,
  "beam search": beam_search,
}


def chosen(small: bool) -> tuple[str, ...]:
  """All programs; two where only the code is tried: they compile for long."""
  return ("GCN step", "beam search") if small else tuple(PROGRAMS)


def step_memory(task: Task, state: Any) -> int:
  """Bytes of each device. The task's data and the state are shapes."""
  run = parallel.run_steps(task.step, task.plan, task.steps_per_epoch)
  inputs = map(parallel.replicate, (state, task.data))
  return parallel.memory(run, *inputs, KEY, 1)


def check_falls(bytes_by_shards: dict[int, int], program: str) -> None:
  """Raises UserError where more shards do not take less of each device."""
  found = [bytes_by_shards[shards] for shards in sorted(bytes_by_shards)]
  if any(more >= less for less, more in zip(found, found[1:], strict=False)):
    raise UserError(
      f"{program}: bytes of each device by number of shards are"
      f" {bytes_by_shards}; they should fall."
    )


def measure(small: bool) -> dict[str, Any]:
  """Bytes of each device, by program and number of shards."""
  config, size = settings(small), SMALL if small else FULL
  # k-means starts on the host: it has no shape. What it finds has this one's.
  config.rqvae.codebook_start = "uniform"
  catalogue = make_catalogue(config, size)
  memory: dict[str, dict[int, int]] = {}
  for name in chosen(small):
    memory[name] = {}
    for shards in size.shards:
      with parallel.shared_by(shards):
        memory[name][shards] = PROGRAMS[name](config, catalogue)
      gib = memory[name][shards] / 2**30
      print(f"  {name}, {shards} shards: {gib:.3g} GiB a device", flush=True)
    check_falls(memory[name], name)
  return {
    **size._asdict(),
    "interactions": len(catalogue.rows.items),
    "devices": len(parallel.devices()),
    "fan_out": config.embed.fan_out,
    "bytes_by_shards": memory,
  }
