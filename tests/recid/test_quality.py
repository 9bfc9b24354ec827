import numpy as np
import pytest

from mmgrec_jax.errors import UserError
from mmgrec_jax.recid import quality
from mmgrec_jax.recid.hkmeans import hierarchical_kmeans


def test_report_by_hand():
  semantic = np.array([[0, 0], [0, 1], [0, 1], [2, 1]])
  report = quality.health_report(semantic, codebook_size=4, r2=0.9)
  assert report["usage"] == [0.5, 0.5]
  assert report["perplexity"][0] == pytest.approx(
    np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
  )
  assert report["collision_rate"] == 0.5
  assert report["groups"] == 3
  assert report["largest_group"] == 2
  assert "largest group 2" in quality.format_report(report)


def test_usage_counts_only_codewords_that_items_can_use():
  report = quality.health_report(np.arange(3)[:, None], 100, r2=1.0)
  assert report["usage"] == [1.0]


def test_r_squared_by_hand(rng):
  x = rng.normal(size=(30, 4))
  assert quality.r_squared(x, np.zeros(30)) == 1
  to_mean_I = ((x - x.mean(axis=0)) ** 2).sum(axis=1)
  assert quality.r_squared(x, to_mean_I) == pytest.approx(0)
  groups = np.arange(30)[:, None]
  assert quality.explained_by_groups(x, groups) == pytest.approx(1)


@pytest.mark.parametrize(
  ("r2", "usage", "largest", "says"),
  [
    (0.1, [1.0, 1.0], 9, "explain only 0.10 .* raise config.rqvae"),
    (0.9, [1.0, 0.1], 9, "Level 2 .* only 10% .* lower config.rqvae"),
    (0.9, [1.0, 1.0], 30_000, "30,000 items have the same .* without features"),
  ],
)
def test_poor_rec_ids_stop_with_what_to_change(r2, usage, largest, says):
  report = {"r2": r2, "usage": usage, "largest_group": largest}
  with pytest.raises(UserError, match=says) as error:
    quality.check_health(report, 0.3, 0.3)
  assert "config.recid.ignore_health" in str(error.value)
  assert "\n" not in str(error.value)


def test_hkmeans_has_its_own_way_out():
  poor = {"r2": 0.1, "usage": [1.0, 0.1], "largest_group": 9}
  with pytest.raises(UserError) as error:
    quality.check_health(poor, 0.3, 0.3, "hkmeans")
  assert "raise config.rqvae.codebook_size; " in str(error.value)
  quality.check_health({**poor, "r2": 0.9}, 0.3, 0.3, "hkmeans")


def test_good_rec_ids_pass():
  good = {"r2": 0.9, "usage": [0.9, 0.8], "largest_group": 9}
  quality.check_health(good, 0.3, 0.3)


def test_hierarchical_kmeans_follows_a_planted_hierarchy(rng):
  top = 100 * rng.normal(size=(3, 1, 1, 4))
  middle = 10 * rng.normal(size=(3, 4, 1, 4))
  low = 0.5 * rng.normal(size=(3, 4, 5, 4))
  x = (top + middle + low).reshape(60, 4).astype(np.float32)
  tokens = hierarchical_kmeans(x, levels=2, branching=4, seed=0)
  planted_top = np.repeat(np.arange(3), 20)
  for cluster in range(3):
    assert len(np.unique(tokens[planted_top == cluster, 0])) <= 2
  assert tokens.shape == (60, 2) and tokens.max() < 4
  assert quality.explained_by_groups(x, tokens) > 0.95


def test_identical_items_stay_together():
  x = np.repeat(np.eye(2, dtype=np.float32), 4, axis=0)
  tokens = hierarchical_kmeans(x, levels=3, branching=5)
  assert len(np.unique(tokens, axis=0)) == 2
