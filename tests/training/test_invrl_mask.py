"""InvRL's environments and mask as state: drawn, moved, killed and resumed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.config import default_config
from mmgrec_jax.models import collaborative as cf
from mmgrec_jax.models.table import build_model
from mmgrec_jax.stages.collaborative import make_inputs, train_baseline
from mmgrec_jax.training import invrl, loop
from mmgrec_jax.workdir import Workdir


@pytest.fixture
def config():
  """Two rounds of two passes of one epoch, then one epoch for the mask."""
  config = default_config("invrl")
  config.data, config.width = "synthetic", 4
  config.synthetic.update(
    n_users=40, n_items=30, interactions_per_user=8, n_tastes=4
  )
  config.model.update(batch_size=64, epochs=2, eval_every=1, negatives=3)
  config.model.mask.update(
    environments=3, batch_size=20, pass_epochs=1, epochs=1
  )
  config.train.checkpoint_seconds = 1e-9
  return config


@pytest.fixture
def make_task(config, small_data):
  def make():
    inputs, model = make_inputs(config, small_data), build_model(config)
    users = jnp.arange(1)
    frozen = model.init(jax.random.key(3), inputs, users, train=False)
    # Larger than at the start, so that environments differ.
    frozen = jax.tree.map(lambda a: 50 * a, frozen["params"])
    return invrl.mask_task(
      "mask", model, frozen, inputs, config.model, jax.random.key(0)
    )

  return make


def test_rounds_go_from_environments_to_the_mask(make_task, train):
  task = make_task()
  steps = task.steps_per_epoch
  state, metrics = train(task, 6 * steps)
  mask = [m["mask"] for m in metrics]  # by epoch: 2 passes, mask, and again
  assert (mask[0] == 0).all() and (mask[1] == 0).all()
  assert (mask[2] > 0).all()
  assert (mask[3] == mask[2][-1]).all() and (mask[4] == mask[2][-1]).all()
  penalised = [(m["penalty"] > 0).all() for m in metrics]
  assert penalised == [False, False, True] * 2
  expected = np.clip(state.params["mu"] + 0.5, 0, 1)
  np.testing.assert_allclose(state.extra.mask_F, expected, rtol=1e-6)


def test_interactions_move_to_where_they_score_highest(
  make_task, small_data, train, config
):
  task = make_task()
  # The next step would start new networks.
  state, _ = train(task, task.steps_per_epoch)
  data, nets = task.data, state.extra.nets.params
  user_E = np.asarray(data.inputs.interactions.user_E)
  item_E = np.asarray(data.inputs.interactions.item_E)
  scores = []
  for W, b in zip(nets["linear"], nets["bias"], strict=True):
    params = {**data.frozen, "linear": W, "bias": b}
    h = cf.embed_everyone(build_model(config), params, data.inputs)
    scores.append((h[0][user_E] * h[1][item_E]).sum(axis=1))
  np.testing.assert_array_equal(state.extra.of_E, np.argmax(scores, axis=0))
  sizes = np.bincount(state.extra.of_E, minlength=3)
  np.testing.assert_array_equal(state.extra.size_K, sizes)
  assert (np.diff(state.extra.of_E[state.extra.order_E]) >= 0).all()
  assert 0 < state.extra.moved < 1


def test_a_step_draws_as_many_of_each_environment(make_task):
  task = make_task()
  known = task.data.inputs.interactions
  of_E = jnp.where(jnp.arange(len(known.item_E)) < 5, 0, 1)  # 2 stays empty
  extra = task.init().extra.assign(of_E)
  drawn = extra.draw(jax.random.key(1), known, 200, 2)
  assert drawn.negative_BxJ.shape == (3, 200, 2)
  np.testing.assert_array_equal(
    np.asarray(drawn.real_B), [[True] * 200, [True] * 200, [False] * 200]
  )
  edges = np.stack([known.user_E, known.item_E], axis=1)
  pairs = np.stack([drawn.user_B, drawn.positive_B], axis=-1)
  as_set = lambda rows: {tuple(row) for row in rows.tolist()}
  assert as_set(pairs[0]) == as_set(edges[:5])
  assert as_set(pairs[1]) <= as_set(edges[5:])


def test_four_devices_equal_one(make_task, train, request):
  steps = 3 * make_task().steps_per_epoch  # into the mask
  four, _ = train(make_task(), steps)
  request.getfixturevalue("one_device")
  one, _ = train(make_task(), steps)
  close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5)
  jax.tree.map(close, four.params, one.params)
  jax.tree.map(close, four.extra, one.extra)


class Killed(Exception):
  pass


def test_killed_in_and_between_phases_the_run_ends_the_same(
  config, small_data, tmp_path, one_device, monkeypatch
):
  """A death at the end of the pretraining, and one among the environments."""
  whole, broken = tmp_path / "whole", tmp_path / "broken"
  run = lambda path: train_baseline(
    config, small_data, Workdir(path, config, small_data)
  )
  expected = run(whole)
  save = loop._Session.save

  def dies_at(name, epochs):
    def save_then_die(self):
      save(self)
      if self.task.name == name and self.epoch == epochs:
        self.checkpoints.close()
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
      patch.setattr(loop._Session, "save", save_then_die)
      run(broken)

  dies_at("invrl_pretrain", config.model.epochs)
  assert not (broken / "invrl_mask").exists()
  dies_at("invrl_mask", 4)  # after the first pass of the second round
  assert not (broken / "invrl").exists()
  for a, b in zip(run(broken), expected, strict=True):
    np.testing.assert_array_equal(a, b)
  without_time = lambda folder: [
    line[: line.index('"seconds"')]
    for line in (folder / "metrics.jsonl").read_text().splitlines()
  ]
  assert without_time(broken) == without_time(whole)
