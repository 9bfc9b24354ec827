import dataclasses
import json
import shutil

import numpy as np
import pytest

from mmgrec_jax import Recommender, extend, pipeline, recommend
from mmgrec_jax.data.dataset import TEST, TRAIN, Dataset
from mmgrec_jax.data.folder import load_dataset, save_dataset
from mmgrec_jax.errors import UserError
from mmgrec_jax.models.item_item import ease_gib
from mmgrec_jax.nn.nearest import SparseRows
from mmgrec_jax.recid.assign import load_rec_ids
from mmgrec_jax.serving import extending
from mmgrec_jax.serving.trained import open_workdir
from mmgrec_jax.stages.rescoring import read_found

pytestmark = pytest.mark.usefixtures("one_device")
NEW_ITEMS, NEW_USERS = 5, 3


def grown(data: Dataset, seed: int = 0, prefix: str = "new") -> Dataset:
  """With more items and users, all rows in another order; the new users like
  known items alone."""
  rng = np.random.default_rng(seed)
  n_users, n_items = data.n_users + NEW_USERS, data.n_items + NEW_ITEMS
  user_row, item_row = rng.permutation(n_users), rng.permutation(n_items)
  new_user = np.repeat(np.arange(data.n_users, n_users), 4)
  new_item = np.concatenate(
    [rng.choice(data.n_items, 4, replace=False) for _ in range(NEW_USERS)]
  )
  user = np.concatenate([data.user_E, new_user, [0, 1, 2]])
  item = np.concatenate([data.item_E, new_item, data.n_items + np.arange(3)])
  names = lambda of: [f"{prefix}_{of}{n}" for n in range(9)]
  user_ids = np.array([*data.user_ids, *names("user")[:NEW_USERS]])
  item_ids = np.array([*data.item_ids, *names("item")[:NEW_ITEMS]])
  features = {
    name: np.concatenate([f, f[:NEW_ITEMS] + 0.1])[np.argsort(item_row)]
    for name, f in data.features.items()
  }
  return dataclasses.replace(
    data,
    name="grown",
    user_E=user_row[user].astype("i4"),
    item_E=item_row[item].astype("i4"),
    split_E=np.concatenate(
      [data.split_E, np.full(len(user) - len(data.user_E), TRAIN)]
    ),
    features=features,
    user_ids=user_ids[np.argsort(user_row)],
    item_ids=item_ids[np.argsort(item_row)],
    timestamp_E=None,
    titles=None,
    pictures=None,
  )


@pytest.fixture(scope="module")
def more(small_data, tmp_path_factory):
  folder = tmp_path_factory.mktemp("grown") / "data"
  save_dataset(grown(small_data), folder)
  return folder


@pytest.fixture(params=["mmgrec", "lightgcn"])
def workdir(request):
  if request.param == "mmgrec":
    return request.getfixturevalue("mmgrec_run")
  return request.getfixturevalue("baseline_runs") / request.param


def call(workdir, data, out, *flags):
  return extend.main(
    [f"--workdir={workdir}", f"--new_data={data}", f"--out={out}", *flags]
  )


def by_id(recommender: Recommender):
  """Vectors (and Rec-IDs) of users and items, by id."""
  data, system = recommender.data, recommender.system
  h_user, h_item = map(np.asarray, system.vectors)
  found = {
    "user": dict(zip(map(str, data.user_ids), h_user, strict=True)),
    "item": dict(zip(map(str, data.item_ids), h_item, strict=True)),
  }
  if system.rec_ids is not None:
    tokens = system.rec_ids.tokens_IxM
    found["rec_id"] = dict(zip(map(str, data.item_ids), tokens, strict=True))
  return found


def test_what_is_known_stays_and_what_is_new_can_be_recommended(
  workdir, more, small_data, tmp_path, capsys
):
  assert call(workdir, more, tmp_path / "out") == 0
  assert "5 new items, 3 new users" in capsys.readouterr().out
  before = Recommender.load(workdir)
  after = Recommender.load(tmp_path / "out")
  was, now = by_id(before), by_id(after)
  for kind, known in was.items():
    for name, values in known.items():
      np.testing.assert_array_equal(values, now[kind][name])
    assert len(now[kind]) == len(known) + (3 if kind == "user" else 5)
    assert np.isfinite(np.stack(list(now[kind].values()))).all()
  if after.system.rec_ids is not None:
    assert after.system.rec_ids.vocabulary == before.system.rec_ids.vocabulary
  users = [*small_data.user_ids[3:9], "new_user0", "new_user2"]
  new = [f"new_item{n}" for n in range(NEW_ITEMS)]
  for one in after.recommend(users, k=NEW_ITEMS, only=new):
    assert sorted(one.items) == new
    assert np.isfinite(one.scores).all()
  # Someone who has a new item does not get it.
  (one,) = after.recommend([small_data.user_ids[0]], k=NEW_ITEMS, only=new)
  assert sorted(one.items) == new[1:]


def test_ease_knows_what_it_knew_and_nothing_of_what_is_new(
  mmgrec_run, more, tmp_path
):
  assert call(mmgrec_run, more, tmp_path / "out") == 0
  before = Recommender.load(mmgrec_run)
  after = Recommender.load(tmp_path / "out")
  row_of = {name: row for row, name in enumerate(after.data.item_ids)}
  known = [row_of[name] for name in before.data.item_ids]
  was, now = (
    np.asarray(of.system.params(None).ease_IxI) for of in (before, after)
  )
  np.testing.assert_array_equal(now[np.ix_(known, known)], was)
  new = np.setdiff1d(np.arange(len(now)), known)
  assert np.isnan(now[:, new]).all() and not now[np.ix_(new, known)].any()


def test_a_matrix_that_is_too_large_is_left_out_and_that_is_said(
  mmgrec_run, more, tmp_path, capsys
):
  run = shutil.copytree(mmgrec_run, tmp_path / "run")
  config = json.loads((run / "config.json").read_text())
  config["evaluation"]["rescore"]["ease"]["max_gib"] = 1.1 * ease_gib(30)
  (run / "config.json").write_text(json.dumps(config))
  assert call(run, more, tmp_path / "out") == 0
  assert "goes on without EASE, whose matrix of 35" in capsys.readouterr().out
  assert not (tmp_path / "out" / "item_item.npz").exists()
  mix = {of: read_found(of)["mmgrec"] for of in (run, tmp_path / "out")}
  assert "ease" in mix[run] and "ease" not in mix[tmp_path / "out"]
  after = Recommender.load(tmp_path / "out")
  (one,) = after.recommend(["new_user0"], k=3)
  assert np.isfinite(one.scores).all()


def test_histories_are_read_as_the_run_read_them(
  mmgrec_run, more, small_data, tmp_path, capsys
):
  run = shutil.copytree(mmgrec_run, tmp_path / "run")
  config = json.loads((run / "config.json").read_text())
  config["generator"]["history_order"] = "time"  # of data without timestamps
  (run / "config.json").write_text(json.dumps(config))
  timed = dataclasses.replace(
    grown(small_data), timestamp_E=np.arange(len(grown(small_data).user_E))
  )
  save_dataset(timed, tmp_path / "timed")
  says = fails(capsys, run, tmp_path / "timed", tmp_path / "out")
  assert "has timestamps, and the run has read histories in no order" in says
  assert call(run, more, tmp_path / "out") == 0


def test_a_new_item_is_alike_to_those_with_such_features(
  mmgrec_run, more, small_data, tmp_path
):
  assert call(mmgrec_run, more, tmp_path / "out") == 0
  after = Recommender.load(tmp_path / "out")
  row_of = {str(name): row for row, name in enumerate(after.data.item_ids)}
  content = after.system.params(None).content
  assert len(content) == 2 * len(small_data.features)
  before = Recommender.load(mmgrec_run).system.params(None).content
  rows = [row_of[str(name)] for name in small_data.item_ids]
  for now, was in zip(content, before, strict=True):
    if isinstance(now, SparseRows):
      nearest_I = np.take_along_axis(
        now.index_RxC, now.weight_RxC.argmax(axis=1)[:, None], axis=1
      )[:, 0]
    else:
      cosine_IxI = np.array(now @ now.T)
      np.testing.assert_allclose(
        cosine_IxI[np.ix_(rows, rows)], was @ was.T, atol=1e-5
      )
      np.fill_diagonal(cosine_IxI, -1)
      nearest_I = cosine_IxI.argmax(axis=1)
    for n in range(NEW_ITEMS):  # has nearly the features of the nth known one
      new = row_of[f"new_item{n}"]
      assert (nearest_I[new], nearest_I[rows[n]]) == (rows[n], new)


def check_is_someone_new(user, before: Recommender, after: Recommender):
  """The user's vector is made of the items that they have in training now."""
  row, rows = after.catalogue.user_row(user), after.data.rows(TRAIN)
  history = after.data.item_ids[
    rows.items[rows.offset[row] : rows.offset[row + 1]]
  ]
  h_item = by_id(after)["item"]
  mean = np.mean([h_item[str(item)] for item in history], axis=0)
  np.testing.assert_allclose(
    by_id(after)["user"][str(user)], mean @ np.asarray(before.fold), rtol=1e-4,
    atol=1e-5,
  )  # fmt: skip


def test_a_new_user_is_someone_new_with_that_history(workdir, more, tmp_path):
  assert call(workdir, more, tmp_path / "out") == 0
  check_is_someone_new(
    "new_user1", Recommender.load(workdir), Recommender.load(tmp_path / "out")
  )


def test_whom_the_run_has_no_training_item_of_is_a_new_user(
  baseline_runs, more, small_data, tmp_path
):
  late = small_data.user_E == 4
  split_E = np.where(late, TEST, small_data.split_E)
  run = open_workdir(baseline_runs / "lightgcn")
  run = run._replace(data=dataclasses.replace(small_data, split_E=split_E))
  extending.extend(run, load_dataset(more), more, tmp_path / "out")
  after = Recommender.load(tmp_path / "out")
  check_is_someone_new(small_data.user_ids[4], Recommender(run), after)
  was, now = by_id(Recommender.load(run.folder)), by_id(after)
  for user in (3, 5):
    name = str(small_data.user_ids[user])
    np.testing.assert_array_equal(now["user"][name], was["user"][name])


def test_training_does_not_go_on_in_an_extended_run(workdir, more, tmp_path):
  assert call(workdir, more, tmp_path / "out") == 0
  config = open_workdir(tmp_path / "out").config
  with pytest.raises(UserError, match="holds a run that was extended"):
    pipeline.run(config, tmp_path / "out")


def test_known_users_of_a_model_with_vectors_get_the_same_lists(
  baseline_runs, more, small_data, tmp_path
):
  workdir = baseline_runs / "lightgcn"
  assert call(workdir, more, tmp_path / "out") == 0
  limits = dict(k=6, only=small_data.item_ids)
  users = small_data.user_ids[3:]
  for one, other in zip(
    Recommender.load(workdir).recommend(users, **limits),
    Recommender.load(tmp_path / "out").recommend(users, **limits),
    strict=True,
  ):
    assert list(map(str, one.items)) == list(map(str, other.items))
    np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5)


def test_an_extended_run_is_extended_again(
  mmgrec_run, more, small_data, tmp_path, monkeypatch
):
  assert call(mmgrec_run, more, tmp_path / "once") == 0
  save_dataset(grown(grown(small_data), 1, "later"), tmp_path / "data")
  taught = []
  learn = extending.learn_map
  monkeypatch.setattr(
    extending,
    "learn_map",
    lambda x, h, seed: taught.append(len(x)) or learn(x, h, seed),
  )
  assert call(tmp_path / "once", tmp_path / "data", tmp_path / "twice") == 0
  # Vectors that were mapped teach nothing, though three have interactions.
  assert taught == [int((small_data.popularity() > 0).sum())]
  once = by_id(Recommender.load(tmp_path / "once"))
  twice = by_id(Recommender.load(tmp_path / "twice"))
  for kind, known in once.items():
    for name, values in known.items():
      np.testing.assert_array_equal(values, twice[kind][name])
  with np.load(tmp_path / "twice" / "embed" / "vectors.npz") as saved:
    assert saved["trained_items"].sum() == taught[0]
  load_rec_ids(tmp_path / "twice" / "recids.npz")


def test_who_is_known_stays_without_a_training_item_in_the_later_data(
  baseline_runs, small_data, tmp_path
):
  """As of a log that keeps the newest interactions alone."""
  later = small_data.split_E.copy()
  later[(small_data.user_E == 4) | (small_data.item_E == 2)] = TEST
  later = dataclasses.replace(small_data, split_E=later)
  save_dataset(later, tmp_path / "later")
  save_dataset(grown(later), tmp_path / "last")
  first = baseline_runs / "lightgcn"
  assert call(first, tmp_path / "later", tmp_path / "once") == 0
  assert call(tmp_path / "once", tmp_path / "last", tmp_path / "twice") == 0
  name = str(small_data.user_ids[4])
  was, *now = map(
    Recommender.load, (first, tmp_path / "once", tmp_path / "twice")
  )
  h = by_id(was)["user"][name]
  for recommender in now:
    row = recommender.catalogue.user_row(name)
    np.testing.assert_array_equal(recommender._h_user[row], h)
  with np.load(tmp_path / "twice" / "vectors.npz") as saved:
    trained = (small_data.popularity() > 0).sum()
    assert saved["trained_items"].sum() == trained


def test_a_boost_lengthens_new_items_alone(baseline_runs, more, tmp_path):
  workdir = baseline_runs / "lightgcn"
  assert call(workdir, more, tmp_path / "plain") == 0
  assert call(workdir, more, tmp_path / "boosted", "--boost=2") == 0
  plain = by_id(Recommender.load(tmp_path / "plain"))["item"]
  boosted = by_id(Recommender.load(tmp_path / "boosted"))["item"]
  about = json.loads((tmp_path / "boosted" / "extended.json").read_text())
  lengths = {True: [], False: []}
  for name, values in plain.items():
    lengths[name.startswith("new_item")].append(np.linalg.norm(values))
  ratio = np.mean(lengths[False]) / np.mean(lengths[True])
  assert about["known_are_longer"] == pytest.approx(ratio, rel=1e-5)
  for name, values in plain.items():
    times = 2 if name.startswith("new_item") else 1
    np.testing.assert_allclose(boosted[name], times * values, rtol=1e-6)


def test_new_users_alone_need_no_features(baseline_runs, small_data, tmp_path):
  (user,) = small_data.user_ids[:1]
  one = dataclasses.replace(
    small_data, features={}, user_ids=np.array(["x", *small_data.user_ids[1:]])
  )
  save_dataset(one, tmp_path / "data")
  workdir = baseline_runs / "lightgcn"
  assert call(workdir, tmp_path / "data", tmp_path / "out") == 0
  about = json.loads((tmp_path / "out" / "extended.json").read_text())
  assert about == {
    "new_items": 0, "new_users": 1, "users_gone": 1, "boost": 1.0,
  }  # fmt: skip
  found = Recommender.load(tmp_path / "out")
  with pytest.raises(UserError, match="is not in"):
    found.recommend([user])
  assert len(found.recommend(["x"], k=3)[0].items) == 3


def test_the_commands_work_on_it(mmgrec_run, more, tmp_path, capsys):
  assert call(mmgrec_run, more, tmp_path / "out") == 0
  flags = [f"--workdir={tmp_path / 'out'}", "--users=new_user0", "--k=3"]
  assert recommend.main([*flags, "--format=csv"]) == 0
  assert capsys.readouterr().out.count("\nnew_user0,") == 3


def fails(capsys, *args):
  assert call(*args) == 2
  assert not args[-1].exists() or any(args[-1].iterdir())
  return capsys.readouterr().err


def test_what_is_wrong_with_the_data_is_named(
  mmgrec_run, baseline_runs, small_data, more, tmp_path, capsys
):
  out = tmp_path / "out"
  assert "there is no such folder" in fails(
    capsys, mmgrec_run, tmp_path / "x", out
  )
  ids = small_data.item_ids.copy()
  ids[[4, 7]] = "other1", "other2"
  save_dataset(
    dataclasses.replace(small_data, item_ids=ids), tmp_path / "fewer"
  )
  says = fails(capsys, mmgrec_run, tmp_path / "fewer", out)
  assert f"item {str(small_data.item_ids[4])!r} of the run is not in" in says
  assert "(2 are not)" in says
  save_dataset(
    dataclasses.replace(grown(small_data), features={}), tmp_path / "bare"
  )
  says = fails(capsys, baseline_runs / "lightgcn", tmp_path / "bare", out)
  assert "5 new items, but no feat_" in says
  save_dataset(
    dataclasses.replace(small_data, features={}), tmp_path / "same-items"
  )
  says = fails(capsys, mmgrec_run, tmp_path / "same-items", out)
  assert f"no feat_{min(small_data.features)}.npy, which the run was" in says
  assert not out.exists()
  assert call(mmgrec_run, more, out, "--boost=0") == 2
  assert "--boost=0.0: it must be above 0" in capsys.readouterr().err
  (out / "something").mkdir(parents=True)
  assert "something already" in fails(capsys, mmgrec_run, more, out)


def test_a_run_without_its_mix_is_not_extended(
  mmgrec_run, more, tmp_path, capsys
):
  run = shutil.copytree(mmgrec_run, tmp_path / "run")
  (run / "rescore.json").unlink()
  says = fails(capsys, run, more, tmp_path / "out")
  assert "rescore.json: not found" in says
  assert not (tmp_path / "out").exists()


def test_a_run_that_cannot_be_extended_says_why(
  mmgrec_run, baseline_runs, more, tmp_path, capsys
):
  says = fails(capsys, baseline_runs / "itemknn", more, tmp_path / "out")
  assert "itemknn has no vectors" in says
  run = open_workdir(mmgrec_run)
  run.config.generator.item_embedding = "learned"
  with pytest.raises(UserError, match="'learned' has trained a row for each"):
    extending.check_extends(run)
  run.config.generator.item_embedding = "rec_id"
  extending.check_extends(run)
  run.config.recid.method = "hkmeans"
  with pytest.raises(UserError, match="only 'graph_rqvae' has a quantizer"):
    extending.check_extends(run)
  run.config.recid.method = "graph_rqvae"
  with pytest.raises(UserError, match="no checkpoint in generate/"):
    extending.check_extends(run._replace(folder=tmp_path))
