"""Soft targets: the vectors' distribution over items, token by token."""

import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.decoding.trie import build_trie
from mmgrec_jax.models.generator import Vectors
from mmgrec_jax.recid.assign import assign_rec_ids
from mmgrec_jax.training import soft_targets

USERS, ITEMS, L = 3, 25, 3


@pytest.fixture(params=["packed", "dense"])
def setting(request, rng):
  """A trie with shared prefixes, vectors, users and what they have seen."""
  ids = assign_rec_ids(
    rng.integers(0, L, (ITEMS, 2)), L, rng.integers(0, 9, ITEMS)
  )
  vectors = Vectors(
    jnp.asarray(rng.normal(size=(USERS, 4)), jnp.float32),
    jnp.asarray(rng.normal(size=(ITEMS, 4)), jnp.float32),
  )
  history = np.array([[3, 7, 1], [5, -1, -1], [-1, -1, -1]])
  return ids, build_trie(ids, request.param), vectors, jnp.asarray(history)


def distribution(setting):
  _, trie, vectors, history = setting
  p = soft_targets.item_distribution(
    vectors, trie, jnp.arange(USERS), history, 1.5
  )
  by_item = np.zeros((USERS, ITEMS))
  by_item[:, np.asarray(trie.item_I)] = p
  return p, by_item


def test_items_share_as_their_standard_scores_say_but_those_seen(setting):
  _, _, vectors, history = setting
  _, p = distribution(setting)
  score = np.asarray(vectors.user_UxD @ vectors.item_IxD.T)
  z = (score - score.mean(1, keepdims=True)) / score.std(1, keepdims=True)
  wanted = np.exp(1.5 * z)
  for user, items in enumerate(np.asarray(history)):
    wanted[user, items[items >= 0]] = 0
  wanted /= wanted.sum(1, keepdims=True)
  np.testing.assert_allclose(p, wanted, atol=1e-6)


def test_tokens_along_a_rec_id_multiply_to_its_items_share(setting):
  ids, trie, _, _ = setting
  p, by_item = distribution(setting)
  items = jnp.broadcast_to(jnp.arange(ITEMS), (USERS, ITEMS))
  semantic, last = soft_targets.token_distributions(
    trie, p, items, ids.vocabulary[-1]
  )
  tokens = ids.tokens_IxM
  share = np.asarray(last)[:, np.arange(ITEMS), tokens[:, -1]]
  for m in range(2):
    share = share * np.asarray(semantic)[:, np.arange(ITEMS), m, tokens[:, m]]
  np.testing.assert_allclose(share, by_item, atol=1e-5)


def test_each_tokens_shares_sum_to_one_or_nothing_is_left(setting):
  ids, trie, _, _ = setting
  p, _ = distribution(setting)
  items = jnp.broadcast_to(jnp.arange(ITEMS), (USERS, ITEMS))
  for shares in soft_targets.token_distributions(
    trie, p, items, ids.vocabulary[-1]
  ):
    total = np.asarray(shares.sum(-1))
    assert (np.isclose(total, 1, atol=1e-5) | (total == 0)).all()


def test_gain_is_largest_where_the_log_probabilities_are_the_teachers(setting):
  ids, trie, _, _ = setting
  p, _ = distribution(setting)
  items = jnp.broadcast_to(jnp.arange(ITEMS), (USERS, ITEMS))
  shares = soft_targets.token_distributions(trie, p, items, ids.vocabulary[-1])
  log = lambda share: jnp.where(share > 0, jnp.log(share), -jnp.inf)
  best = soft_targets.gain(trie, p, items, tuple(map(log, shares)))
  flat = lambda share: jnp.where(
    share > 0, -jnp.log((share > 0).sum(-1, keepdims=True)), -jnp.inf
  )
  other = soft_targets.gain(trie, p, items, tuple(map(flat, shares)))
  assert np.isfinite(best).all()
  assert (best >= other - 1e-6).all() and (best > other + 0.01).any()


def test_a_user_who_has_seen_everything_is_taught_nothing(setting):
  ids, trie, vectors, _ = setting
  seen = jnp.broadcast_to(jnp.arange(ITEMS), (USERS, ITEMS))
  p = soft_targets.item_distribution(
    vectors, trie, jnp.arange(USERS), seen, 1.5
  )
  assert (np.asarray(p) == 0).all()
  drawn = soft_targets.draw_items(trie, p, jnp.full((USERS, 2), 0.5))
  for shares in soft_targets.token_distributions(
    trie, p, drawn, ids.vocabulary[-1]
  ):
    assert (np.asarray(shares) == 0).all()


def test_items_are_drawn_as_often_as_they_have_a_share(setting):
  _, trie, _, history = setting
  p, by_item = distribution(setting)
  level = jnp.broadcast_to((jnp.arange(5000) + 0.5) / 5000, (USERS, 5000))
  drawn = np.asarray(soft_targets.draw_items(trie, p, level))
  for user in range(USERS):
    often = np.bincount(drawn[user], minlength=ITEMS) / 5000
    np.testing.assert_allclose(often, by_item[user], atol=1e-3)
    assert not np.isin(drawn[user], np.asarray(history)[user]).any()


def test_lists_share_as_their_logits_say_but_those_seen(setting):
  _, trie, vectors, history = setting
  lists = soft_targets.Lists(
    jnp.array([[3, 4, 9], [6, 2, -1], [0, 24, 12]]),
    jnp.array([[5.0, 1.0, 0.5], [0.2, 0.1, 0.0], [-3.0, -2.0, -1.0]]),
  )
  p = soft_targets.item_distribution(
    vectors, trie, jnp.array([2, 1, 0]), history[::-1], 2.0, lists
  )
  by_item = np.zeros((USERS, ITEMS))
  by_item[:, np.asarray(trie.item_I)] = p
  wanted = np.zeros((USERS, ITEMS))
  wanted[0, [0, 24, 12]] = np.exp([-6, -4, -2])
  wanted[1, [6, 2]] = np.exp([0.4, 0.2])
  wanted[2, [4, 9]] = np.exp([2, 1])  # 3 is in the history
  wanted /= wanted.sum(axis=1, keepdims=True)
  np.testing.assert_allclose(by_item, wanted, atol=1e-6)
