import dataclasses

import jax
import numpy as np
import pytest

from mmgrec_jax import Recommender
from mmgrec_jax.data.dataset import TEST, Rows
from mmgrec_jax.errors import UserError
from mmgrec_jax.serving import systems
from mmgrec_jax.serving.trained import open_workdir
from mmgrec_jax.training import parallel

EVERYTHING = [f"item{i}" for i in range(30)]

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture(scope="module")
def as_evaluated(mmgrec_run):
  return Recommender.load(mmgrec_run, seen="train")


@pytest.fixture(params=["mmgrec", "lightgcn", "itemknn"])
def workdir(request):
  if request.param == "mmgrec":
    return request.getfixturevalue("mmgrec_run")
  return request.getfixturevalue("baseline_runs") / request.param


def evaluated(workdir):
  """Users and items of the run's own evaluation, by its last system."""
  with np.load(workdir / "per_user.npz") as saved:
    *_, lists = [name for name in saved if name.endswith("/items")]
    return saved[f"{lists.partition('/')[0]}/users"], saved[lists]


def test_lists_are_those_of_the_evaluation(workdir, small_data):
  users, items = evaluated(workdir)
  recommender = Recommender.load(workdir, seen="train")
  found = recommender.recommend(small_data.user_ids[users], k=10)
  for one, user, wanted in zip(found, users, items, strict=True):
    wanted = wanted[:10][wanted[:10] >= 0]
    assert one.user == small_data.user_ids[user]
    assert one.items.tolist() == small_data.item_ids[wanted].tolist()
    assert one.titles.tolist() == small_data.titles[wanted].tolist()
    assert (np.diff(one.scores) <= 0).all()


def test_nothing_that_a_user_has_and_only_what_is_allowed(workdir, small_data):
  recommender = Recommender.load(workdir)
  everything = small_data.rows(None)
  only = small_data.item_ids[::2]
  exclude = small_data.item_ids[:6]
  kept = set(only.tolist()) - set(exclude.tolist())
  users = small_data.user_ids[:7]
  limits = dict(exclude=exclude, only=only)
  found = recommender.recommend(users, k=len(kept), **limits)
  for user, one in enumerate(found):
    row = slice(everything.offset[user], everything.offset[user + 1])
    has = set(small_data.item_ids[everything.items[row]].tolist())
    # As many as are left, exactly.
    assert sorted(one.items.tolist()) == sorted(kept - has)
  narrow = recommender.recommend(users, k=2, **limits)
  for one, first in zip(found, narrow, strict=True):
    assert one.items[:2].tolist() == first.items.tolist()


def test_ids_are_text_or_numbers_and_batches_change_nothing(as_evaluated):
  ids = as_evaluated.data.user_ids.tolist()
  together = as_evaluated.recommend(ids, k=3)
  alone = [as_evaluated.recommend([str(user)], k=3)[0] for user in ids[:3]]
  as_evaluated._config.evaluation.batch_size = 8
  parted = list(as_evaluated.stream(iter(ids), k=3))
  others = [*parted, *alone]
  for one, other in zip(together + together[:3], others, strict=True):
    assert one.user == other.user
    assert one.items.tolist() == other.items.tolist()
    np.testing.assert_array_equal(one.rec_ids, other.rec_ids)


def test_someone_new_gets_lists_without_their_history(workdir, small_data):
  recommender = Recommender.load(workdir)
  histories = [small_data.item_ids[:3].tolist(), [small_data.item_ids[9]] * 2]
  found = recommender.recommend_to_new(histories, k=small_data.n_items)
  for history, one in zip(histories, found, strict=True):
    assert one.user is None
    wanted = set(small_data.item_ids.tolist()) - set(history)
    assert set(one.items.tolist()) == wanted
  assert found[0].items.tolist() != found[1].items.tolist()


def test_who_came_after_training_is_someone_new_with_that_history(
  workdir, small_data
):
  run = open_workdir(workdir)
  late = [4, 7]
  moved_E = np.isin(small_data.user_E, late)
  split_E = np.where(moved_E, TEST, small_data.split_E)
  data = dataclasses.replace(small_data, split_E=split_E)
  recommender = Recommender(run._replace(data=data))
  # In the order in which they are read: a long one is cut.
  offset, items = recommender.seen_rows
  histories = [
    small_data.item_ids[items[offset[u] : offset[u + 1]]] for u in late
  ]
  found = recommender.recommend(small_data.user_ids[late], k=20)
  wanted = recommender.recommend_to_new(histories, k=20)
  for one, other in zip(found, wanted, strict=True):
    assert one.items.tolist() == other.items.tolist()
  known = Recommender(run).recommend(small_data.user_ids[:4], k=20)
  again = recommender.recommend(small_data.user_ids[:4], k=20)
  for one, other in zip(known, again, strict=True):
    assert one.items.tolist() == other.items.tolist()


def test_fold_in_finds_the_map_that_made_the_users(rng):
  h_item, W = rng.normal(size=(50, 4)), rng.normal(size=(4, 4))
  rows = Rows(np.arange(0, 301, 10), rng.integers(0, 50, 300))
  mean = h_item[rows.items.reshape(30, 10)].mean(axis=1)
  found = systems.mean_of_rows(h_item, rows)
  np.testing.assert_allclose(found, mean, atol=1e-5)
  found = systems.fold_in(mean @ W, h_item, rows)
  np.testing.assert_allclose(found, W, atol=0.05)
  empty = systems.mean_of_rows(h_item, Rows(np.array([0, 0]), rows.items[:0]))
  assert (np.asarray(empty) == 0).all()


@pytest.mark.parametrize(
  ("ask", "says"),
  [
    (dict(users=["nobody"]), "user 'nobody' is not in"),
    (dict(users=[0], only=["none such"]), "item 'none such' is not in"),
    (dict(users=[0], k=31), "k is 31, but there are 30 items"),
    (dict(users=[0], k=0), "k is 0"),
    (dict(users=[0], exclude=EVERYTHING), "there are 0 items"),
    (dict(users=[0], only=[]), "there are 0 items"),
  ],
)  # fmt: skip
def test_wrong_questions_are_one_sentence(as_evaluated, ask, says):
  with pytest.raises(UserError, match=says):
    as_evaluated.recommend(**ask)


def test_nobody_gets_no_lists(as_evaluated):
  assert as_evaluated.recommend_to_new([]) == []
  assert list(as_evaluated.recommend([])) == []


def test_an_empty_history_is_named(as_evaluated):
  with pytest.raises(UserError, match="history 2 of 2 is empty"):
    as_evaluated.recommend_to_new([["item1"], []])


def test_what_counts_as_seen_is_one_of_two(mmgrec_run):
  with pytest.raises(UserError, match="seen is 'both'"):
    Recommender.load(mmgrec_run, seen="both")


def test_a_later_call_for_someone_new_compiles_and_copies_nothing(
  workdir, small_data, monkeypatch
):
  recommender = Recommender.load(workdir)
  traced, copied = [], []
  make, replicate = recommender.system.recommend, parallel.replicate

  def recommend(k):
    best = make(k)

    def traces(*arguments):
      traced.append(k)
      return best(*arguments)

    return traces

  def counting(tree):
    copied.append(sum(leaf.size for leaf in jax.tree.leaves(tree)))
    return replicate(tree)

  monkeypatch.setattr(recommender.system, "recommend", recommend)
  monkeypatch.setattr(parallel, "replicate", counting)
  ids = small_data.item_ids.tolist()
  first = recommender.recommend_to_new([ids[:3]], k=5)
  assert len(traced) == 1
  del copied[:]
  recommender.recommend_to_new([ids[4:9]], k=5)
  (again,) = recommender.recommend_to_new([ids[:3]], k=5)
  assert len(traced) == 1
  assert again.items.tolist() == first[0].items.tolist()
  assert max(copied) < 400  # a few vectors and histories, padded
