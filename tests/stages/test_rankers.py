import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.config import default_config
from mmgrec_jax.evaluation import ranking
from mmgrec_jax.stages import rankers
from mmgrec_jax.stages.rankers import CPU_BEAMS, users_at_a_time
from mmgrec_jax.training import parallel


def test_beams_of_so_many_users_as_a_cpus_caches_hold(monkeypatch):
  config = default_config()
  assert CPU_BEAMS == 2048 and config.evaluation.batch_size == 128
  assert [users_at_a_time(config, k) for k in (5, 20, 100, 5000)] == [
    64, 64, 20, 1,
  ]  # fmt: skip
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert users_at_a_time(config, 100) == 128


@pytest.mark.parametrize("users", [1, 3, 40])
def test_how_many_users_go_together_changes_no_list(
  users, mmgrec_run, one_device, monkeypatch
):
  from mmgrec_jax import Recommender
  from mmgrec_jax.stages import rankers

  everyone = Recommender.load(mmgrec_run)
  expected = everyone.recommend(everyone.data.user_ids[:9], k=6)
  monkeypatch.setattr(rankers, "CPU_BEAMS", users * 30)  # its beam width
  found = Recommender.load(mmgrec_run).recommend(
    everyone.data.user_ids[:9], k=6
  )
  for one, other in zip(found, expected, strict=True):
    assert one.items.tolist() == other.items.tolist()


@pytest.mark.parametrize(
  ("n", "most", "together"),
  [(64, 40, 32), (41, 40, 24), (943, 20, 20), (3, 40, 4), (1, 40, 1)],
)
def test_groups_of_users_are_about_even(n, most, together, one_device):
  def function(add, user_B):
    return user_B + add, jnp.full(user_B.shape, len(user_B))

  run = parallel.map_users(function, most)
  users = np.arange(n)[::-1]
  found, size = run(parallel.replicate(jnp.int32(5)), users)()
  assert (found == users + 5).all()
  assert set(size) == {together}


def test_scores_of_all_items_are_of_as_many_users_as_memory_holds(
  small_data, rng, monkeypatch
):
  config = default_config()
  h = tuple(
    rng.normal(size=(n, 4)).astype(np.float32)
    for n in (small_data.n_users, small_data.n_items)
  )
  users = np.arange(small_data.n_users)
  sizes = []

  def lists():
    with monkeypatch.context() as patched:
      plain = parallel.map_users
      patched.setattr(
        parallel,
        "map_users",
        lambda recommend, size: sizes.append(size) or plain(recommend, size),
      )
      ranker = rankers.inner_product_ranker(config, small_data, k=5)
      return ranker(parallel.replicate(h), users)

  together = lists()
  monkeypatch.setattr(ranking, "MOST_SCORES", 3 * small_data.n_items)
  in_threes = lists()
  assert set(sizes) == {config.evaluation.batch_size, 3}
  np.testing.assert_array_equal(in_threes[0], together[0])
  assert ranking.users_to_rank_for(128, 10 * ranking.MOST_SCORES) == 1
