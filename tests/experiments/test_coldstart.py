import json
from pathlib import Path

import numpy as np
import pytest

from experiments import coldstart, planning, runs
from experiments import coldstart_parts as parts
from mmgrec_jax import pipeline
from mmgrec_jax.data.dataset import TEST, TRAIN
from mmgrec_jax.evaluation.evaluate import countable_users
from mmgrec_jax.serving.trained import Trained

# Of ml_collections, when it reads a config file in this process.
pytestmark = [
  pytest.mark.filterwarnings("ignore:the load_module"),
  pytest.mark.usefixtures("one_device"),
]

ROOT = Path(__file__).parents[2]
TINY = {
  "synthetic.n_users": 40,
  "synthetic.n_items": 60,
  "synthetic.interactions_per_user": 12,
  "width": 8,
  "model.epochs": 1,
  "rqvae.epochs": 1,
  "rqvae.steps_per_epoch": 5,
  "rqvae.codebook_size": 8,
  "rqvae.hidden": 8,
  "rqvae.latent": 4,
  "recid.ignore_health": True,
  "generator.epochs": 1,
  "generator.skip_sure": False,  # less to compile
  "generator.heads": 1,
  "generator.encoder_head_width": 4,
  "generator.decoder_head_width": 4,
  "generator.feed_forward": 8,
  "generator.history_length": 6,
  "generator.targets_per_history": 2,
  "evaluation.cutoffs": (10,),
  "evaluation.beam_width": 20,
  "evaluation.valid_beam_width": 20,
}


@pytest.fixture
def held(small_data):
  return parts.hold_out(small_data, 0.2, seed=1)


def pairs(data):
  user = data.user_ids[data.user_E].astype(str)
  return set(zip(user, data.item_ids[data.item_E].astype(str), strict=True))


def test_what_is_held_out_is_in_no_training_interaction(held, small_data):
  assert held.item_I.sum() == 6 and held.user_U.sum() >= 8
  assert held.train.n_items == 24
  assert held.train.n_users == small_data.n_users - held.user_U.sum()
  new_items = set(small_data.item_ids[held.item_I].astype(str))
  new_users = set(small_data.user_ids[held.user_U].astype(str))
  kept = {
    (user, item)
    for user, item in pairs(small_data)
    if user not in new_users and item not in new_items
  }
  assert pairs(held.train) == kept
  _, item_E = held.later.edges(TRAIN)
  assert not held.item_I[item_E].any()
  assert pairs(held.later) == pairs(small_data)
  for name, feature in held.train.features.items():
    np.testing.assert_array_equal(
      feature, small_data.features[name][~held.item_I]
    )
  again = parts.hold_out(small_data, 0.2, seed=1)
  assert (again.item_I == held.item_I).all()
  other = parts.hold_out(small_data, 0.2, seed=2)
  assert (other.item_I != held.item_I).any()


def test_only_what_is_asked_counts(held):
  for new_items in (False, True):
    for new_users in (False, True):
      truth = parts.asked(held, new_items, new_users)
      user_E, item_E = truth.edges(TEST)
      assert len(user_E)
      assert (held.item_I[item_E] == new_items).all()
      assert (held.user_U[user_E] == new_users).all()
      user_E, _ = truth.edges(TRAIN)
      assert len(user_E) == len(held.later.edges(TRAIN)[0])


def test_lists_by_a_score_are_the_best_unseen_allowed_ones(held):
  score_I = np.arange(30.0)
  users = countable_users(held.later, "test")
  lists = parts.top(
    held.later, users, held.item_I, lambda u: np.tile(score_I, (len(u), 1))
  )
  new = np.flatnonzero(held.item_I)[::-1].tolist()
  assert all(row.tolist() == new + [-1] * 4 for row in lists)
  lists = parts.top(
    held.later, users, ~held.item_I, lambda u: np.tile(score_I, (len(u), 1))
  )
  seen = held.later.rows(TRAIN)
  for user, row in zip(users, lists, strict=True):
    has = seen.items[seen.offset[user] : seen.offset[user + 1]]
    left = np.setdiff1d(np.flatnonzero(~held.item_I), has)[::-1]
    assert row.tolist() == [*left, *[-1] * 10][:10]


def test_content_asks_the_nearest_known_items(held):
  every = parts.similarities(held, None)
  two = parts.similarities(held, 2)
  assert (every[held.item_I] == 0).all() and (np.diag(every) == 0).all()
  assert every.max() <= 1 + 1e-5
  for column, kept in zip(every.T, two.T, strict=True):
    nearest = np.sort(column)[-2:]
    np.testing.assert_array_equal(np.sort(kept)[-2:], nearest)
    assert (kept > 0).sum() <= 2


def test_the_command_trains_extends_scores_and_goes_on(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(ROOT)
  done, scored = [], []
  score_all = parts.score_all

  def score(held, of):
    scored.append(score_all(held, of))
    return scored[-1]

  def execute(run):
    done.append(run.folder.name)
    pipeline.run(planning.read_config(run.arguments), run.folder)
    return 0

  monkeypatch.setattr(runs, "execute", execute)
  monkeypatch.setattr(parts, "score_all", score)
  flags = [
    "--datasets=synthetic", "--share=0.2", "--seeds=1", f"--out={tmp_path}",
    *(f"--config.{key}={value}" for key, value in TINY.items()),
  ]  # fmt: skip
  coldstart.main(flags)
  assert done == ["mmgrec-0", "held-out-0", "held-out-itemknn-0"]
  found = json.loads((tmp_path / "coldstart.json").read_text())["synthetic"]
  assert found["extended"][0]["new_items"] == 12
  assert found["extended"][0]["new_users"] >= 8
  assert list(found["scores"]) == [
    "new items, among themselves", "new items, among all",
    "known items, among themselves", "known items, among all", "new users",
  ]  # fmt: skip
  for systems in found["scores"].values():
    for scores in systems.values():
      assert 0 <= scores["recall@10"]["mean"] <= 1
  # Ten of twelve: whoever chooses at random finds most.
  few = found["scores"]["new items, among themselves"]
  assert all(scores["recall@10"]["mean"] > 0.6 for scores in few.values())
  text = (tmp_path / "coldstart.md").read_text()
  assert "| mmgrec, trained with them" in text
  # Nothing is made again; scoring again would take half a minute.
  monkeypatch.setattr("mmgrec_jax.serving.extending.extend", None)
  monkeypatch.setattr(parts, "score_all", lambda *_: scored[0])
  coldstart.main(flags)
  assert len(done) == 3
  assert (tmp_path / "coldstart.md").read_text() == text
  # All of it has moved.
  moved = tmp_path.rename(tmp_path.with_name("moved"))
  coldstart.main([*flags, f"--out={moved}"])
  assert (moved / "coldstart.md").read_text() == text
  moved.rename(tmp_path)
  with pytest.raises(SystemExit) as stopped:
    coldstart.main([*flags, "--share=0.3"])
  assert stopped.value.code == 2
  assert "another data set or --share" in capsys.readouterr().err


@pytest.fixture
def extend_once(tmp_path, monkeypatch):
  """Extends a made-up run; what the folder is of, and how often it was made."""
  made = []

  def extend(run, data, place, out, boost):
    made.append(run)
    out.mkdir()
    text = (run.folder / "embed/vectors.npz").read_text()
    (out / "extended.json").write_text(json.dumps({"run": text}))

  monkeypatch.setattr("mmgrec_jax.serving.extending.extend", extend)
  monkeypatch.setattr("mmgrec_jax.data.folder.load_dataset", lambda place: None)

  def call():
    run = Trained(tmp_path / "run", None, None)
    of = coldstart.extend_once(run, tmp_path / "later", tmp_path / "extended")
    return of["run"], len(made)

  return call


def train(folder, name, text):
  """Files of a run, one of them another."""
  for mark in coldstart.MARKS:
    (folder / mark).parent.mkdir(parents=True, exist_ok=True)
    (folder / mark).write_text(text if mark == name else "as ever")


@pytest.mark.parametrize("name", coldstart.MARKS)
def test_another_run_in_the_folder_is_extended_again(
  name, extend_once, tmp_path
):
  train(tmp_path / "run", name, "first")
  first = extend_once()
  assert first[1] == 1
  assert extend_once() == first
  train(tmp_path / "run", name, "second")
  now = extend_once()
  assert now == (first[0].replace("first", "second"), 2)
  assert extend_once() == now


def test_what_was_made_from_an_unknown_run_is_made_again(extend_once, tmp_path):
  train(tmp_path / "run", "embed/vectors.npz", "new")
  (tmp_path / "extended").mkdir()
  (tmp_path / "extended" / "extended.json").write_text('{"run": "old"}')
  assert extend_once() == ("new", 1)
  assert extend_once() == ("new", 1)


@pytest.mark.parametrize(
  ("flag", "says"),
  [
    ("--share=1", "between 0 and 1"),
    ("--share=1e-4", "that is 0 of"),
    ("--seeds=0", "1 or"),
    ("--config.evaluation.exclude_validation=True", "are candidates, always"),
  ],
)
def test_mistakes_are_named(flag, says, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(ROOT)
  with pytest.raises(SystemExit) as stopped:
    coldstart.main(["--datasets=synthetic", f"--out={tmp_path / 'o'}", flag])
  assert stopped.value.code == 2
  assert says in capsys.readouterr().err
  assert not (tmp_path / "o").exists()


def test_a_place_that_cannot_be_a_folder_is_named(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(ROOT)
  (tmp_path / "o").touch()
  with pytest.raises(SystemExit) as stopped:
    coldstart.main(["--datasets=synthetic", f"--out={tmp_path / 'o'}"])
  assert stopped.value.code == 2
  assert "cannot be a folder (Not a directory)" in capsys.readouterr().err
