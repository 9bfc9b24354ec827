"""Tables shared by devices: the same training, in another layout."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax import config as configs
from mmgrec_jax.data.dataset import TRAIN
from mmgrec_jax.errors import UserError
from mmgrec_jax.evaluation.ranking import Ranker, rank_by_inner_product
from mmgrec_jax.training import parallel, sharded
from mmgrec_jax.training.checkpoint import Checkpoints
from mmgrec_jax.training.loop import Schedule, fit
from mmgrec_jax.training.writer import Writer


@pytest.fixture
def short_arrays_too(monkeypatch):
  """The tests' tables are short; few of their lengths are even."""
  monkeypatch.setattr(sharded, "LEAST", 20)


def close(a, b, **tolerance):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


@pytest.mark.parametrize(
  ("fan_out", "shards"), [((), 2), ((3, 2), 4)], ids=["whole graph", "sampled"]
)
def test_training_is_that_of_unshared_tables(
  fan_out, shards, make_embedding_task, train, short_arrays_too
):
  # Uniform: see test_one_device_equals_four.
  make = lambda: make_embedding_task(codebook_start="uniform", fan_out=fan_out)
  own, _ = train(make(), 5)
  with parallel.shared_by(shards):
    shared, _ = train(make(), 5)
  close(own.params, shared.params, atol=2e-5)
  close(own.extra, shared.extra, atol=2e-4)


def test_a_run_goes_on_in_another_layout(
  make_generator_task, tmp_path, short_arrays_too
):
  better = itertools.count(0.0)

  def run(place, epochs):
    best, _ = fit(
      make_generator_task(lambda params: next(better)),
      Schedule(epochs=epochs, patience=9),
      Checkpoints(tmp_path / place),
      Writer(tmp_path / "metrics.jsonl"),
      jax.random.key(1),
    )
    return best

  whole = run("one layout", 2)
  with parallel.shared_by(2):
    half = run("both", 1)
  close(whole, run("both", 2), atol=2e-5)
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), whole, half)
  assert max(jax.tree.leaves(moved)) > 1e-3


def test_lists_are_those_of_unshared_tables(small_data, rng, short_arrays_too):
  h = tuple(rng.normal(size=(n, 8)).astype(np.float32) for n in (40, 30))
  users = np.arange(37)

  def lists():
    ranker = Ranker(
      lambda h, user_B, history, seen: rank_by_inner_product(
        *h, user_B, seen, 7
      ),
      small_data.rows(TRAIN),
      batch_size=4,
      seed=0,
    )
    return ranker(parallel.replicate(h), users)

  own_items, own_scores = lists()
  with parallel.shared_by(2):
    items, scores = lists()
  assert np.array_equal(items, own_items)
  np.testing.assert_allclose(scores, own_scores, rtol=1e-5)


def test_each_device_holds_its_part_alone():
  tree = {
    "table": np.arange(4001 * 3).reshape(4001, 3),
    "rows": np.arange(8 * 2000).reshape(8, 2000),
    "layer": np.ones((64, 64)),
    "step": np.int32(3),
  }
  with parallel.shared_by(4):
    placed = parallel.replicate(tree)
    of_device = lambda a: a.addressable_shards[1].data.shape
    assert of_device(placed["table"].padded) == (1001, 3)
    assert of_device(placed["rows"].padded) == (8, 500)
    assert of_device(placed["layer"]) == (64, 64)
    back = parallel.unreplicate(placed)
  assert all(np.array_equal(back[name], tree[name]) for name in tree)


def test_a_step_takes_a_part_of_the_memory_on_each_device():
  """Table, moment, gradient: none of them is whole anywhere."""
  table = np.ones((40_001, 16), np.float32)
  n = table.nbytes

  def step(tables, row_B):
    table, moment = tables
    row_B = parallel.my_share(row_B, None)
    gradient = jax.grad(lambda t: (t[row_B] ** 2).sum())(table)
    moment = 0.9 * moment + gradient / jnp.sqrt((gradient**2).sum())
    return table - moment, moment

  def memory():
    tables = parallel.replicate((table, table))
    program = parallel.everywhere(step, donate_argnums=0)
    return parallel.memory(program, tables, parallel.replicate(np.arange(64)))

  own = memory()
  with parallel.shared_by(4):
    shared = memory()
  assert own > 3 * n > 2 * n > shared


def test_products_with_a_shared_table_leave_it_in_its_parts(rng):
  x = rng.normal(size=(8, 64)).astype(np.float32)
  table = rng.normal(size=(20_001, 64)).astype(np.float32)

  def best(x_BxD, table_IxD):
    x_BxD = parallel.my_share(x_BxD, None)
    product_BxI = parallel.products(x_BxD, table_IxD)
    return parallel.my_share(product_BxI, None).max(axis=1)

  with parallel.shared_by(4):
    program = parallel.everywhere(best)
    placed = parallel.replicate((x, table))
    found = parallel.unreplicate(program(*placed))
    assert parallel.memory(program, *placed) < table.nbytes
  np.testing.assert_allclose(found, (x @ table.T).max(axis=1), rtol=1e-4)


def test_shapes_are_placed_as_arrays_are():
  table = np.ones((4001, 3), np.float32)
  shape = jax.ShapeDtypeStruct(table.shape, table.dtype)
  with parallel.shared_by(2):
    placed, of_shape = map(parallel.replicate, (table, shape))
  assert of_shape.padded.shape == placed.padded.shape == (4002, 3)
  assert of_shape.padded.sharding == placed.padded.sharding
  assert (of_shape.axis, of_shape.length) == (placed.axis, placed.length)
  copies, of_shape = map(parallel.replicate, (table, shape))
  assert of_shape.shape == copies.shape == (4, 4001, 3)
  assert of_shape.sharding == copies.sharding


def test_a_number_of_shards_that_does_not_fit_is_an_error():
  with (
    pytest.raises(UserError, match="must divide the number of devices, 4"),
    parallel.shared_by(3),
  ):
    pass


def test_a_workdir_takes_a_run_in_any_layout():
  one, other = configs.default_config(), configs.default_config()
  other.model_shards, other.seed = 4, 1
  found = configs.differences(one.to_dict(), other.to_dict())
  assert found == ["config.seed: 0 there, 1 now"]
