import itertools

import numpy as np
import pytest

from mmgrec_jax.errors import UserError
from mmgrec_jax.nn.quantizer import residual_quantize
from mmgrec_jax.recid.assign import RecIds, assign_rec_ids
from mmgrec_jax.recid.extend import later_rec_ids, nearest_first

S, L, Z = 2, 4, 3


@pytest.fixture
def codebooks(rng):
  return rng.standard_normal((S, L, Z)).astype(np.float32)


def quantized(z, codebooks):
  return np.asarray(residual_quantize(z, codebooks).codes_BxM)


def test_the_quantizers_own_tokens_and_the_groups_next_last_one(rng, codebooks):
  codes = quantized(rng.standard_normal((12, Z)), codebooks)
  assigned = assign_rec_ids(codes, L, np.arange(12)).tokens_IxM
  published = RecIds(assigned, (L, L, 50))  # room in every group
  z = rng.standard_normal((9, Z)).astype(np.float32)
  later = later_rec_ids(published, z, codebooks)
  np.testing.assert_array_equal(later[:, :S], quantized(z, codebooks))
  seen = published.tokens_IxM.tolist()
  for *prefix, last in later.tolist():
    assert last == sum(one[:S] == prefix for one in seen)
    seen.append([*prefix, last])


def test_every_rec_id_is_given_once_and_then_there_are_none(rng, codebooks):
  codes = quantized(rng.standard_normal((10, Z)), codebooks)
  published = assign_rec_ids(codes, L, np.arange(10))
  room = L * L * published.vocabulary[-1] - 10
  later = later_rec_ids(published, rng.standard_normal((room, Z)), codebooks)
  everything = np.concatenate([published.tokens_IxM, later])
  RecIds(everything, published.vocabulary)  # all different, all in range
  assert len(everything) == L * L * published.vocabulary[-1]
  with pytest.raises(UserError, match=f"only {room:,} Rec-IDs are free"):
    later_rec_ids(published, rng.standard_normal((room + 1, Z)), codebooks)


def test_a_full_group_sends_an_item_to_the_nearest_other_one():
  codebooks = np.array([[[0.0], [10.0]], [[0.0], [1.0]]])
  published = RecIds(np.array([[0, 0, 0], [1, 0, 0]], np.int32), (2, 2, 1))
  z = np.array([[0.1], [0.1], [0.1]])
  with pytest.raises(UserError, match="3 new items"):
    later_rec_ids(published, z, codebooks)
  later = later_rec_ids(published, z[:2], codebooks)
  assert later.tolist() == [[0, 1, 0], [1, 1, 0]]


def test_nearest_first_is_every_prefix_once_the_quantizers_first(
  rng, codebooks
):
  z = rng.standard_normal(Z).astype(np.float32)
  found = list(nearest_first(z, codebooks))
  assert sorted(found) == list(itertools.product(range(L), repeat=S))
  assert list(found[0]) == quantized(z[None], codebooks)[0].tolist()
  left = lambda prefix: z - codebooks[0, prefix[0]] - codebooks[1, prefix[1]]
  of_first = [np.square(left(p)).sum() for p in found[:L]]
  assert of_first == sorted(of_first)
  assert len({prefix[0] for prefix in found[:L]}) == 1
