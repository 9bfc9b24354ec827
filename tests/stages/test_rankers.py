import jax
import pytest

from mmgrec_jax.config import default_config
from mmgrec_jax.stages.rankers import CPU_BEAMS, users_at_a_time


def test_beams_of_so_many_users_as_a_cpus_caches_hold(monkeypatch):
  config = default_config()
  assert CPU_BEAMS == 2048 and config.evaluation.batch_size == 128
  assert [users_at_a_time(config, k) for k in (5, 20, 100, 5000)] == [
    128, 102, 20, 1,
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
