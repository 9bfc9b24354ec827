import numpy as np

from mmgrec_jax.data import features
from mmgrec_jax.data.synthetic import make_synthetic


def test_text_features_put_like_titles_together():
  titles = ["Star Wars", "Star Wars II", "Casablanca", "The Casablanca Story"]
  x = features.text_features(titles, dim=3)
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  similarity = x @ x.T
  assert similarity[0, 1] > similarity[0, 2]
  assert similarity[2, 3] > similarity[1, 3]


def test_multi_hot_counts_each_word_once():
  hot = features.multi_hot(["Action Sci-Fi", "Children's", "Sci-Fi Sci-Fi"])
  assert hot.shape == (3, 3)
  assert hot.sum(axis=1).tolist() == [2, 1, 1]


def test_normalised_rows_have_unit_length_and_no_nan(rng):
  x = rng.normal(size=(20, 5)) * np.array([1e-3, 1, 1e6, 1, 0])
  y = features.normalise_features(x, "zscore_l2")
  assert np.allclose(np.linalg.norm(y, axis=1), 1, atol=1e-6)
  # The columns' scales no longer matter.
  assert np.abs(y[:, :4]).mean(axis=0).min() > 0.2
  assert (y[:, 4] == 0).all()
  assert np.array_equal(
    features.normalise_features(x, "none"), x.astype(np.float32)
  )


def test_close_numbers_of_one_column_are_close_rows():
  price = np.array([[1.0], [1.2], [0.0], [5.0], [9.0]])
  x = features.normalise_features(price, "zscore_l2")
  present = [0, 1, 3, 4]
  np.testing.assert_allclose(np.linalg.norm(x[present], axis=1), 1, atol=1e-6)
  assert (x[2] == 0).all()
  cosine = x[present] @ x[0]
  assert (np.diff(cosine) < 0).all() and cosine[1] > 0.99
  assert features.normalise_features(price, "none").shape == (5, 1)


def test_synthetic_features_and_popularity_carry_signal():
  data = make_synthetic(200, 100, 15, n_tastes=4, seed=0)
  x = features.normalise_features(data.features["visual"], "zscore_l2")
  user, item = data.edges(0)
  profile = np.zeros((data.n_users, x.shape[1]))
  np.add.at(profile, user, x[item])
  test_user, test_item = data.edges(2)
  liked = (profile[test_user] * x[test_item]).sum(axis=1).mean()
  assert liked > 3 * (profile @ x.T).mean()
  top_tenth = np.sort(data.popularity())[::-1][:10].sum()
  assert top_tenth > 0.2 * len(user)


def test_synthetic_depends_on_its_seed_only():
  first, again = (
    make_synthetic(20, 15, 5, seed=2),
    make_synthetic(20, 15, 5, seed=2),
  )
  assert first.fingerprint == again.fingerprint
  other = make_synthetic(20, 15, 5, seed=3)
  assert first.fingerprint != other.fingerprint


def test_what_is_missing_stays_0_and_does_not_move_the_others(rng):
  x = rng.normal(size=(20, 70)) + 5
  gaps = np.zeros((30, 70))
  gaps[::3][:10], gaps[1::3] = x[:10], x[10:]
  present = features.present_rows(gaps)
  assert present.sum() == 20
  y = features.normalise_features(gaps, "zscore_l2")
  assert (y[~present] == 0).all()
  order = np.concatenate([np.arange(0, 30, 3), np.arange(1, 30, 3)])
  expected = features.normalise_features(x, "zscore_l2")
  assert np.allclose(y[order], expected, atol=1e-6)
  nothing = np.zeros((3, 2))
  assert (features.normalise_features(nothing, "zscore_l2") == 0).all()


def test_of_many_texts_a_part_says_what_all_are_reduced_to(monkeypatch):
  texts = [f"{word} number {n}" for n in range(40) for word in ("cat", "bird")]
  whole = features.text_features(texts, dim=4)
  monkeypatch.setattr(features, "MOST_TEXTS", 60)
  part = features.text_features(texts, dim=4)
  assert part.shape == whole.shape and part.dtype == np.float32
  np.testing.assert_array_equal(part, features.text_features(texts, dim=4))
  unit = part / np.linalg.norm(part, axis=1, keepdims=True)
  cats, birds = unit[::2], unit[1::2]
  assert (cats @ cats.T).mean() > (cats @ birds.T).mean() + 0.3


def test_texts_that_are_all_equal_have_features_without_a_warning():
  assert np.isfinite(features.text_features(["same", "same"], dim=4)).all()


def test_bag_of_words_counts_in_any_order_and_leaves_the_rest_0():
  item, word = np.array([2, 0, 2, 0]), np.array([900, 7, 7, 900])
  x = features.bag_of_words(item, word, n_items=4, dim=8)
  assert np.allclose(x[0], x[2]) and not x[[1, 3]].any()


def test_later_items_do_not_move_the_scale(rng):
  x = rng.standard_normal((20, 5)).astype(np.float32)
  x[3] = 0  # missing
  known = np.arange(20) < 15
  alone = features.normalise_features(x[:15], "zscore_l2")
  y = features.normalise_features(x, "zscore_l2", known)
  np.testing.assert_allclose(y[:15], alone, atol=1e-6)
  np.testing.assert_allclose(np.linalg.norm(y[15:], axis=1), 1, atol=1e-5)
  # A later item that is a known one's copy is where that is.
  x[17] = x[2]
  again = features.normalise_features(x, "zscore_l2", known)
  np.testing.assert_allclose(again[17], alone[2], atol=1e-6)
  assert (features.normalise_features(x, "zscore_l2", known & False) == 0).all()
