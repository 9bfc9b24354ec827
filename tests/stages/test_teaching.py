"""teacher.npz: the vectors re-scored are what the generator learns from."""

import json

import numpy as np
import pytest

from mmgrec_jax.arrays import read_arrays, write_arrays
from mmgrec_jax.data.dataset import TRAIN
from mmgrec_jax.errors import UserError
from mmgrec_jax.serving.trained import open_workdir, reload_generator
from mmgrec_jax.stages import rescoring, teaching
from mmgrec_jax.workdir import Workdir

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture
def taught(mmgrec_run, tmp_path):
  """A run whose generator is to be taught, its folder and its vectors."""
  run = open_workdir(mmgrec_run)
  run.config.generator.soft_targets.update(teacher="rescored", share=1.0)
  folder = Workdir(tmp_path / "taught", run.config, run.data)
  return run, folder, reload_generator(run).search.vectors


def test_its_lists_are_the_vectors_re_scored(taught):
  run, folder, vectors = taught
  lists = teaching.make_teacher(run.config, run.data, folder, vectors)
  item_UxK, logit_UxK = np.asarray(lists.item_UxK), np.asarray(lists.logit_UxK)
  assert item_UxK.shape == (run.data.n_users, 30)
  h_UxI = np.asarray(vectors.user_UxD @ vectors.item_IxD.T)
  for user, (items, logits) in enumerate(zip(item_UxK, logit_UxK, strict=True)):
    seen = run.data.rows(TRAIN).of(user)
    unseen = np.setdiff1d(np.arange(run.data.n_items), seen)
    best = unseen[np.argsort(-h_UxI[user, unseen])][:30]
    there = items >= 0
    assert set(items[there]) == set(best)
    assert (np.diff(logits[there]) <= 0).all() and (logits[~there] == 0).all()


def test_without_other_scores_its_logits_are_inner_products(taught, capsys):
  run, folder, vectors = taught
  run.config.evaluation.rescore.scores = ()
  lists = teaching.make_teacher(run.config, run.data, folder, vectors)
  assert "teacher: vectors" in capsys.readouterr().out
  h_UxI = np.asarray(vectors.user_UxD @ vectors.item_IxD.T)
  for user, items in enumerate(np.asarray(lists.item_UxK)):
    score = h_UxI[user, items[items >= 0]]
    logit = np.asarray(lists.logit_UxK)[user, : len(score)]
    assert abs(np.corrcoef(score, logit)[0, 1]) > 0.999


def test_a_run_that_goes_on_has_the_teacher_that_it_had(taught, monkeypatch):
  run, folder, vectors = taught
  first = teaching.make_teacher(run.config, run.data, folder, vectors)
  assert "teacher" in json.loads((folder.path / "seconds.json").read_text())
  monkeypatch.setattr(rescoring, "fit", None)
  again = teaching.make_teacher(run.config, run.data, folder, vectors)
  np.testing.assert_array_equal(first.item_UxK, again.item_UxK)
  np.testing.assert_array_equal(first.logit_UxK, again.logit_UxK)


def test_of_other_items_it_is_refused(taught):
  run, folder, vectors = taught
  teaching.make_teacher(run.config, run.data, folder, vectors)
  path = folder.path / "teacher.npz"
  arrays = read_arrays(path, "")
  write_arrays(path, arrays | {"item": arrays["item"] + run.data.n_items})
  with pytest.raises(UserError, match="teacher.npz"):
    teaching.make_teacher(run.config, run.data, folder, vectors)


@pytest.mark.parametrize("change", [{"teacher": "vectors"}, {"share": 0.0}])
def test_there_is_none_where_none_is_wanted(taught, change):
  run, folder, vectors = taught
  run.config.generator.soft_targets.update(change)
  assert teaching.make_teacher(run.config, run.data, folder, vectors) is None
  assert not (folder.path / "teacher.npz").exists()
