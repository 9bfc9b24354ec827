import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.inspect import finished, lists, probabilities
from experiments.inspect.__main__ import main
from mmgrec_jax.data.dataset import TEST, TRAIN, VALID
from mmgrec_jax.data.folder import save_dataset
from mmgrec_jax.decoding.generate import generate
from mmgrec_jax.decoding.trie import build_trie
from mmgrec_jax.errors import UserError
from mmgrec_jax.evaluation.ranking import rank_unseen
from mmgrec_jax.models.generator import Generator, Vectors
from mmgrec_jax.recid import neighbours
from mmgrec_jax.recid.assign import assign_rec_ids
from mmgrec_jax.serving.trained import open_workdir, reload_generator
from mmgrec_jax.training import parallel
from mmgrec_jax.training.generating import init_params

USERS, ITEMS, D, L = 4, 20, 8, 4
READ = 3  # items of a history


def small_generator(rng, **changes):
  """A generator with random weights, and arguments of a recommend function."""
  ids = assign_rec_ids(
    rng.integers(0, L, (ITEMS, 3)), L, rng.integers(0, 5, ITEMS)
  )
  vectors = Vectors(
    *(jnp.asarray(rng.normal(size=(n, D)), "f4") for n in (USERS, ITEMS)),
    jnp.asarray(ids.tokens_IxM),
  )
  model = Generator(
    ids.vocabulary, ITEMS, D, encoder_layers=1, decoder_layers=1, heads=1,
    encoder_head_width=6, decoder_head_width=6, feed_forward=8, **changes,
  )  # fmt: skip
  shapes = jax.eval_shape(
    lambda: init_params(model, vectors, jax.random.key(0))
  )
  # Start values would give every item about the same probability.
  params = jax.tree.map(
    lambda w: jnp.asarray(rng.normal(size=w.shape, scale=0.5), "f4"), shapes
  )
  history = np.full((USERS, 5), -1)
  for user, n in enumerate((5, 3, 1, 0)):
    history[user, :n] = rng.choice(ITEMS, n, replace=False)
  trie = build_trie(ids)
  return model, (params, vectors, trie), jnp.asarray(history), ids.tokens_IxM


def all_log_probs(model, arguments, history):
  score = jax.jit(probabilities.log_probs_of_all, static_argnums=(0, 6))
  return score(model, *arguments, jnp.arange(USERS), history, READ)


TIGER = {"encoder": "sinusoidal", "item_embedding": "rec_id"}


@pytest.mark.parametrize(
  ("trie_softmax", "changes"), [(True, TIGER), (False, {"user_token": True})]
)
def test_a_beam_as_wide_as_the_catalogue_is_the_exact_ranking(
  rng, monkeypatch, trie_softmax, changes
):
  monkeypatch.setattr(probabilities, "ITEMS_AT_ONCE", 7)  # 20 = 7 + 7 + 6
  model, arguments, history, _ = small_generator(
    rng, trie_softmax=trie_softmax, **changes
  )
  log_p = all_log_probs(model, arguments, history)
  items, scores = rank_unseen(log_p, history, ITEMS)
  beam_items, beam_scores = jax.jit(generate, static_argnums=(0, 6, 7))(
    model, *arguments, jnp.arange(USERS), history, READ, ITEMS
  )
  np.testing.assert_array_equal(items, beam_items)
  np.testing.assert_allclose(scores, beam_scores, atol=1e-4)
  total = np.exp(np.asarray(log_p)).sum(axis=1)
  assert np.allclose(total, 1, atol=1e-4) == trie_softmax


def test_a_tokens_rank_is_that_of_the_mass_of_its_items(rng):
  model, arguments, history, tokens = small_generator(rng)
  log_p = all_log_probs(model, arguments, history)
  p = np.exp(np.asarray(log_p, np.float64))
  targets = rng.integers(0, ITEMS, (USERS, 6))
  better, choices = jax.jit(probabilities.token_ranks, static_argnums=(0, 6))(
    model, *arguments, jnp.arange(USERS), history, READ, jnp.asarray(targets)
  )
  for (user, t), item in np.ndenumerate(targets):
    for m in range(4):
      same = (tokens[:, :m] == tokens[item, :m]).all(axis=1)
      mass = np.bincount(tokens[same, m], weights=p[user, same])
      assert better[user, t, m] == (mass > mass[tokens[item, m]]).sum()
      assert choices[user, t, m] == (mass > 0).sum()


def test_right_probabilities_have_no_calibration_error_others_have_theirs(rng):
  p = rng.random(100_000)
  right = probabilities.calibration(p, rng.random(len(p)) < p)
  assert right["ece"] < 0.01
  assert [b["count"] for b in right["buckets"]] == [10_000] * 10
  half = probabilities.calibration(p, rng.random(len(p)) < p / 2)
  assert half["ece"] == pytest.approx(0.25, abs=0.01)
  for i, bucket in enumerate(half["buckets"]):
    assert bucket["predicted"] == pytest.approx(0.05 + i / 10, abs=0.01)
    assert bucket["came_true"] == pytest.approx(0.025 + i / 20, abs=0.02)


def test_a_generator_that_knows_how_users_choose_is_calibrated(small_data):
  """Any item of the split is as likely the next: 1 over their number."""
  truth = small_data.rows(TEST)
  users = np.flatnonzero(truth.lengths)
  items = probabilities.padded_rows(truth)[users]
  with np.errstate(divide="ignore"):
    scores = np.log((items >= 0) / truth.lengths[users][:, None])
  # What is said of all items counts only relative to the unseen ones.
  seen = np.log(np.full(len(users), 0.5))
  found = probabilities.calibrate(items, scores + seen[0], seen, users, truth)
  assert found["ece"] == pytest.approx(0, abs=1e-6)
  wrong = probabilities.calibrate(items, scores, seen, users, truth)
  assert wrong["ece"] > 0.5


def test_share_found_counts_each_users_exact_list():
  exact = np.array([[1, 2, 3], [4, 5, -1]])
  beam = np.array([[3, 9, 1], [5, -1, -1]])
  found = probabilities.share_found(beam, exact)
  assert found == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_buckets_share_the_weight_and_never_part_equal_values():
  values = np.array([5, 1, 1, 1, 2, 3, 9, 9])
  group, bounds = lists.buckets(values, np.ones(8), n=3)
  assert group.tolist() == [2, 0, 0, 0, 1, 1, 2, 2]
  assert bounds == [
    {"low": 1, "high": 1}, {"low": 2, "high": 3}, {"low": 5, "high": 9},
  ]  # fmt: skip


def test_gini_is_0_of_equal_counts_and_largest_on_one_item():
  assert lists.gini(np.full(7, 3)) == pytest.approx(0)
  assert lists.gini(np.array([0, 0, 0, 8])) == pytest.approx(3 / 4)
  assert lists.gini(np.array([1, 3])) == pytest.approx(1 / 4)


def test_lists_are_judged_by_bucket(small_data):
  truth = small_data.rows(TEST)
  users = np.flatnonzero(truth.lengths)
  right = probabilities.padded_rows(truth)[users]
  popular = np.argsort(-small_data.popularity())[:1]
  same = np.tile(popular, (len(users), 1))
  run = finished.Finished(
    None, small_data, "test", {},
    {"users": users, "right/items": right, "same/items": same},
  )  # fmt: skip
  out = lists.of_systems(run)
  best, worst = out["systems"]["right"], out["systems"]["same"]
  assert set(best["recall_by_popularity"]) <= {1.0, None}
  assert best["recall_by_history"] == [1.0] * len(out["history_buckets"])
  occurring = len(np.unique(right[right >= 0]))
  assert best["coverage"] == occurring / small_data.n_items
  assert worst["coverage"] == 1 / small_data.n_items
  assert worst["gini"] == pytest.approx(1 - 1 / small_data.n_items)
  assert worst["shown_by_popularity"][-1] == 1
  assert worst["recall_by_popularity"][0] == 0
  # The shares of the truth by bucket are those that all of it is.
  found = [b["truth"] for b in out["popularity_buckets"]]
  assert best["shown_by_popularity"] == pytest.approx(found)


def test_neighbours_share_exactly_the_first_tokens(small_data, rng):
  tokens = np.array([[1, 2, 3], [1, 2, 9], [1, 5, 3], [0, 2, 3]])
  assert neighbours.shared_tokens(tokens, 0).tolist() == [3, 2, 1, 0]
  ids = assign_rec_ids(rng.integers(0, 3, (30, 3)), 3, small_data.popularity())
  names = list(small_data.titles)
  for one in neighbours.of_items(small_data, ids):
    item = names.index(one["item"])
    assert one["rec_id"] == ids.tokens_IxM[item].tolist()
    for m, others in one["shares"].items():
      for name in others["items"]:
        other = ids.tokens_IxM[names.index(name)]
        assert (other[: int(m)] == one["rec_id"][: int(m)]).all()
        assert other[int(m)] != one["rec_id"][int(m)]


def test_a_finished_run_is_inspected(
  mmgrec_run, monkeypatch, capsys, one_device
):
  monkeypatch.setattr(probabilities, "WIDTHS", (10, 30))
  folder = mmgrec_run
  read = lambda: {
    path: path.read_bytes()
    for path in folder.rglob("*")
    if path.is_file() and not path.name.startswith("inspect")
  }
  before = read()
  main([f"--workdir={folder}"])
  assert read() == before
  assert (folder / "inspect.md").read_text() in capsys.readouterr().out
  for name in ("inspect_lists.png", "inspect_generator.png"):
    assert (folder / name).stat().st_size > 1000

  out = json.loads((folder / "inspect.json").read_text())
  rows = json.loads((folder / "results.json").read_text())["valid"]
  assert out["systems"].keys() == rows.keys()
  for name, row in rows.items():
    assert out["systems"][name]["recall@10"] == pytest.approx(row["recall@10"])
  # 30 beams for 30 items: the exact ranking, and the run's own plain beams.
  beams = out["beams"]
  assert beams["30"]["found"] == 1
  assert 0 < beams["10"]["found"] <= 1
  plain = pytest.approx(rows["generator"]["recall@10"])
  assert beams["30"]["recall@10"] == out["exact_recall@10"] == plain
  with np.load(folder / "per_user.npz") as saved:  # mmgrec's are re-scored
    lists = [saved[f"valid/{name}/items"] for name in ("generator", "mmgrec")]
  assert (lists[0] != lists[1]).any()
  top = out["calibration"]["top"]["buckets"]
  assert sum(b["count"] for b in top) == out["users_examined"]
  assert len(out["levels"]) == 4
  assert all(level["top1"] <= level["top10"] for level in out["levels"])


def test_the_exact_ranking_leaves_out_what_the_run_left_out(
  mmgrec_run, one_device
):
  trained = open_workdir(mmgrec_run)
  data, everything = trained.data, trained.data.n_items
  trained.config.evaluation.exclude_validation = True
  run = finished.Finished(trained.config, data, "test", {}, {})
  model, _, search = reload_generator(trained)
  users, chosen = np.arange(data.n_users), data.rows(VALID)
  items, _, _ = probabilities.exact_ranker(run, model, everything)(
    parallel.replicate(search), users
  )
  unseen = everything - data.rows(TRAIN).lengths - chosen.lengths
  assert np.array_equal((items >= 0).sum(axis=1), unseen)
  for user in users:
    assert not set(items[user].tolist()) & set(chosen.of(user).tolist())


def test_a_run_that_was_extended_was_not_evaluated(mmgrec_run, tmp_path):
  (tmp_path / "extended.json").write_text("{}")
  run = open_workdir(mmgrec_run)._replace(folder=tmp_path)
  with pytest.raises(UserError, match="extended has no evaluation to look"):
    finished.read_finished(run)


def test_data_that_has_moved_is_given(mmgrec_run, tmp_path, capsys):
  with pytest.raises(SystemExit) as stopped:
    main([f"--workdir={mmgrec_run}", f"--data={tmp_path / 'gone'}"])
  assert stopped.value.code == 2
  assert f"No data set at '{tmp_path / 'gone'}'" in capsys.readouterr().err


def test_no_users_cannot_be_examined(tmp_path, capsys):
  with pytest.raises(SystemExit) as stopped:
    main([f"--workdir={tmp_path}", "--users=0"])
  assert stopped.value.code == 2
  assert "--users=0: how many" in capsys.readouterr().err


def test_a_run_without_a_generator_cannot_be_inspected(
  tmp_path, small_data, capsys
):
  save_dataset(small_data, tmp_path / "data")
  of_run = {
    "config": {"system": "mf", "data": str(tmp_path / "data")},
    "dataset": {"fingerprint": small_data.fingerprint},
    "results": {},
  }
  for name, value in of_run.items():
    (tmp_path / f"{name}.json").write_text(json.dumps(value))
  with pytest.raises(SystemExit) as stopped:
    main([f"--workdir={tmp_path}"])
  assert stopped.value.code == 2
  assert "mf has no generator" in capsys.readouterr().err
