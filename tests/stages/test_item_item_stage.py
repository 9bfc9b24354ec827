"""itemknn and ease from settings to results."""

import numpy as np
import pytest

from mmgrec_jax import config as configs
from mmgrec_jax import pipeline
from mmgrec_jax.data.dataset import TRAIN, VALID
from mmgrec_jax.errors import UserError
from mmgrec_jax.stages import item_item
from mmgrec_jax.stages.load import load_data
from mmgrec_jax.workdir import Workdir

EVERY = pytest.mark.parametrize("system", ["itemknn", "ease"])


def small(system):
  config = configs.default_config(system)
  config.data = "synthetic"
  config.synthetic.update(
    n_users=60, n_items=50, interactions_per_user=12, n_tastes=4
  )
  return config


@EVERY
def test_a_run_beats_popularity_and_goes_on_from_its_matrix(
  system, tmp_path, capsys
):
  config = small(system)
  first = pipeline.run(config, tmp_path)
  assert list(first["test"]) == ["popularity", system]
  for metric in ("recall@10", "ndcg@10"):
    assert first["test"][system][metric] > first["test"]["popularity"][metric]
  assert system in capsys.readouterr().out
  made = (tmp_path / "item_item.npz").stat().st_mtime_ns
  again = pipeline.run(config, tmp_path)
  assert again["test"] == first["test"]
  assert (tmp_path / "item_item.npz").stat().st_mtime_ns == made


@EVERY
def test_items_of_the_training_split_are_never_recommended(system, tmp_path):
  config = small(system)
  data = load_data(config)
  folder = Workdir(tmp_path, config, data)
  matrix = item_item.make_matrix(system, config.model, data, folder)
  ranker = item_item.item_item_ranker(config, data, data.n_items)
  everyone = np.arange(data.n_users)
  on_all = pipeline.parallel.replicate(matrix)
  items_UxI, _ = ranker(on_all, everyone)
  rows = data.rows(TRAIN)
  for user, items in enumerate(items_UxI):
    seen = rows.items[rows.offset[user] : rows.offset[user + 1]]
    unseen = np.setdiff1d(np.arange(data.n_items), seen)
    assert sorted(items[items >= 0]) == unseen.tolist()
  hidden = data.rows(VALID)
  fewer_UxI, _ = ranker.hiding(hidden)(on_all, everyone)
  for user, (items, fewer) in enumerate(zip(items_UxI, fewer_UxI, strict=True)):
    left = items[~np.isin(items, [-1, *hidden.of(user)])]
    assert fewer[fewer >= 0].tolist() == left.tolist()


@EVERY
def test_what_only_training_needs_is_no_setting(system):
  config = configs.default_config(system)
  configs.check(config)
  with pytest.raises(UserError, match="config.width is no setting"):
    configs.set_value(config, "width", 32)


def test_ease_without_its_penalty_is_refused():
  config = configs.default_config("ease")
  configs.set_value(config, "model.l2", 0)
  with pytest.raises(UserError, match="no solution without it"):
    configs.check(config)
