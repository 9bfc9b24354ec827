"""Large catalogues: memory falls with shards, and wrong results are noticed."""

import numpy as np
import pytest

from experiments.benchmarks import scale_for_real, scale_in_shape
from mmgrec_jax.data.dataset import Rows
from mmgrec_jax.errors import UserError
from mmgrec_jax.recid.assign import RecIds

SEEN = Rows(np.array([0, 2, 3], np.int32), np.array([4, 7, 1], np.int32))


def test_scale_benchmark_runs_and_memory_falls_with_shards(run_small):
  found = run_small("scale")

  memory = found["in shape"]["bytes_by_shards"]
  assert set(memory) == {"GCN step", "beam search"}
  for of_shards in memory.values():
    assert set(of_shards) == {"1", "8"}
    assert 0 < of_shards["8"] < of_shards["1"] / 2
  tables = 4 * 40_000 * (16 + 64 * 3)  # features; parameters and two moments
  assert memory["GCN step"]["1"] > tables > memory["GCN step"]["8"]

  stages = found["stages"]
  assert stages["items"] == 1_500 and stages["beam_width"] == 10
  assert set(stages["steps"]) == {"embed", "rqvae", "generate"}
  assert set(stages["faults"].values()) == {0}
  for part in (stages, found["Rec-IDs"]):
    costs = list(part["parts"].values())
    assert all(c["seconds"] >= 0 and c["peak_gib"] > 0 for c in costs)


def test_memory_that_does_not_fall_is_noticed():
  scale_in_shape.check_falls({1: 90, 8: 20, 2: 50}, "beam search")
  with pytest.raises(UserError, match="generator step: .*should fall"):
    scale_in_shape.check_falls({1: 90, 2: 60, 4: 61}, "generator step")


@pytest.mark.parametrize(
  ("row", "fault"),
  [
    ([0, 2, 3], None),
    ([0, -1, 3], "no item"),
    ([0, 9, 3], "no item"),
    ([0, 7, 3], "seen before"),
    ([3, 2, 3], "twice in a list"),
  ],
)
def test_a_wrong_list_is_noticed(row, fault):
  items_NxK = np.array([[0, 4, 2], row])  # of user 1, who has seen item 1
  users = np.array([1, 0])
  faults = scale_for_real.faults_of_lists(items_NxK, users, SEEN, n_items=9)
  assert faults == {name: int(name == fault) for name in faults}
  if fault:
    with pytest.raises(UserError, match=f"wrong. {fault}: 1"):
      scale_for_real.check(faults)


def test_a_shared_rec_id_is_noticed(monkeypatch):
  tokens = np.array([[0, 1, 0], [1, 1, 0], [0, 1, 1]], np.int32)
  assert scale_for_real.shared_rec_ids(RecIds(tokens, (2, 2, 2))) == 0
  monkeypatch.setattr(RecIds, "__post_init__", lambda self: None)
  tokens[2, 2] = 0
  assert scale_for_real.shared_rec_ids(RecIds(tokens, (2, 2, 2))) == 1
