import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.decoding.allowed import allow
from mmgrec_jax.decoding.beam_search import beam_search
from mmgrec_jax.decoding.log_probs import masked_log_softmax
from mmgrec_jax.decoding.trie import build_trie
from mmgrec_jax.recid.assign import RecIds, assign_rec_ids

pytestmark = pytest.mark.usefixtures("optimised")


def table_model(logits, last):
  """A model that remembers its whole prefix in the cache.

  logits: [M-1, L, L, L] by step and the two tokens before.
  last: [L, C] by the token before.
  """

  def step_logits(token_BxK, step, cache):
    cache = jnp.where(step == 0, 0, cache * 100 + token_BxK + 1)
    before = cache // 100 % 100
    now = jnp.where(step == 0, 0, token_BxK)
    return logits[step, before, now], cache

  def last_logits(token_BxK, step, cache):
    return last[token_BxK], cache

  return step_logits, last_logits


def all_scores(ids, logits, last, renormalise):
  """Exact log-probability of every item, by following its Rec-ID."""
  tokens = ids.tokens_IxM
  out = np.zeros(len(tokens))
  for i, row in enumerate(tokens):
    for m in range(len(row)):
      same = (tokens[:, :m] == row[:m]).all(axis=1)
      valid = np.zeros(ids.vocabulary[m], bool)
      valid[tokens[same, m]] = True
      if m < len(row) - 1:
        before = row[m - 2] + 1 if m > 1 else 0
        scores = logits[m, before, row[m - 1] if m else 0]
      else:
        scores = last[row[m - 1]]
      p = masked_log_softmax(jnp.asarray(scores), valid, renormalise)
      out[i] += p[row[m]]
  return out


def random_case(rng, items, size):
  ids = assign_rec_ids(
    rng.integers(0, size, (items, 3)), size, rng.integers(0, 4, items)
  )
  logits = rng.normal(size=(3, size + 1, size, size)).astype(np.float32)
  last = rng.normal(size=(size, ids.vocabulary[-1])).astype(np.float32)
  return ids, jnp.asarray(logits), jnp.asarray(last)


def search(
  ids, logits, last, history, width, renormalise=True, form="packed",
  only=None, skip=True,
):  # fmt: skip
  run = jax.jit(
    lambda history: beam_search(
      *table_model(logits, last),
      jnp.zeros((len(history), 1), jnp.int32),
      build_trie(ids, form),
      history,
      width,
      renormalise,
      skip,
      allowed=None if only is None else allow(ids, only),
    )
  )
  return map(np.asarray, run(jnp.asarray(history)))


def test_hand_made_lattice():
  # Items 0: (0,0,0,0), 1: (0,1,0,0), 2: (1,0,0,0), 3: (1,0,0,1).
  tokens = np.array([[0, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 1]])
  ids = RecIds(tokens.astype(np.int32), (2, 2, 2, 2))
  half = np.log(0.5)
  logits = np.zeros((3, 3, 2, 2), np.float32)
  logits[0, 0, 0] = np.log([0.4, 0.6])  # first token 1 is likelier
  logits[1, 0, 0] = np.log([0.9, 0.1])
  last = np.full((2, 2), half, np.float32)
  items, scores = search(ids, jnp.asarray(logits), jnp.asarray(last), [[-1]], 4)
  # .36 for item 0, .3 each for items 2 and 3, .04 for item 1.
  assert items[0].tolist() == [0, 2, 3, 1]
  np.testing.assert_allclose(np.exp(scores[0]), [0.36, 0.3, 0.3, 0.04], 1e-5)
  # A single beam commits to token 1 first and never sees item 0.
  items, _ = search(ids, jnp.asarray(logits), jnp.asarray(last), [[-1]], 1)
  assert items[0].tolist() == [2]


@pytest.mark.parametrize("renormalise", [True, False])
def test_beam_equals_brute_force_when_width_covers_catalogue(rng, renormalise):
  for items, size in ((1, 1), (12, 3), (40, 5)):
    ids, logits, last = random_case(rng, items, size)
    exact = all_scores(ids, logits, last, renormalise)
    for width in (items, items + 7):
      found, scores = search(ids, logits, last, [[-1, -1]], width, renormalise)
      np.testing.assert_allclose(
        scores[0, :items], np.sort(exact)[::-1], atol=1e-4
      )
      assert sorted(found[0, :items]) == list(range(items))
      np.testing.assert_allclose(exact[found[0, :items]], scores[0, :items],
                                 atol=1e-4)  # fmt: skip
      assert (found[0, items:] == -1).all()
      assert np.isneginf(scores[0, items:]).all()
    if renormalise:
      assert np.exp(exact).sum() == pytest.approx(1, abs=1e-4)


def test_no_seen_repeated_or_invalid_item_for_any_catalogue_and_width(rng):
  for trial in range(12):
    items = int(rng.integers(1, 60))
    ids, logits, last = random_case(rng, items, int(rng.integers(1, 6)))
    width = int(rng.integers(1, items + 10))
    history = np.full((3, 50), -1)
    for b in range(3):
      n = int(rng.integers(0, min(items, 50) + 1))
      history[b, :n] = rng.choice(items, n, replace=False)
    form = ("packed", "dense")[trial % 2]
    found, scores = search(ids, logits, last, history, width, form=form)
    for b in range(3):
      seen = set(history[b]) - {-1}
      got = found[b][found[b] >= 0].tolist()
      # As many as asked for, or all that are left: exclusion is exact.
      assert len(got) == min(width, items - len(seen)), trial
      assert len(set(got)) == len(got) and not set(got) & seen
      assert max(got, default=0) < items
      assert (np.diff(scores[b][: len(got)]) <= 0).all()
      assert (found[b, len(got) :] == -1).all()


def test_seen_items_free_their_beams_for_others(rng):
  ids, logits, last = random_case(rng, 40, 3)
  exact = all_scores(ids, logits, last, True)
  best_first = np.argsort(-exact, kind="stable")
  history = best_first[None, :10]
  found, scores = search(ids, logits, last, history, 40)
  np.testing.assert_allclose(scores[0, :30], exact[best_first[10:]], atol=1e-4)


@pytest.mark.parametrize("form", ["packed", "dense"])
def test_only_allowed_items_with_the_scores_of_the_whole_catalogue(rng, form):
  for trial in range(6):
    items = int(rng.integers(2, 50))
    ids, logits, last = random_case(rng, items, int(rng.integers(1, 5)))
    exact = all_scores(ids, logits, last, trial % 2 == 0)
    only = rng.random(items) < rng.choice([0.1, 0.5, 0.9])
    only[rng.integers(items)] = True
    history = np.full((2, 30), -1)
    n = int(rng.integers(0, min(items, 30)))
    history[0, :n] = rng.choice(items, n, replace=False)
    found, scores = search(
      ids, logits, last, history, items, trial % 2 == 0, form, only
    )
    narrow, _ = search(
      ids, logits, last, history, 2, trial % 2 == 0, form, only
    )
    for b in range(2):
      left = np.flatnonzero(only & ~np.isin(np.arange(items), history[b]))
      got = found[b][found[b] >= 0]
      assert sorted(got) == left.tolist(), trial
      np.testing.assert_allclose(
        scores[b, : len(got)], np.sort(exact[left])[::-1], atol=1e-4
      )
      # No beam is lost on prefixes whose allowed items have all been seen.
      assert (narrow[b] >= 0).sum() == min(2, len(left))


def test_packed_and_dense_tries_find_the_same_to_the_bit(rng):
  for trial, size in enumerate((1, 5, 33, 40)):
    items = int(rng.integers(1, 200))
    ids, logits, last = random_case(rng, items, size)
    history = np.full((2, 20), -1)
    n = min(items, 15)
    history[0, :n] = rng.choice(items, n, replace=False)
    packed, dense = (
      list(search(ids, logits, last, history, 9, trial % 2 == 0, form))
      for form in ("packed", "dense")
    )
    np.testing.assert_array_equal(packed[0], dense[0])
    np.testing.assert_array_equal(packed[1], dense[1])


class Recorded:
  """A table model whose cache is the path, and who asks how many beams."""

  def __init__(self, logits, last):
    self._step, self._last = table_model(logits, last)
    self.asked = []

  def _count(self, token_BxR, step):
    count = lambda step: self.asked.append((int(step), token_BxR.shape[1]))
    jax.debug.callback(count, step)

  def step_logits(self, token_BxR, step, cache):
    self._count(token_BxR, step)
    return self._step(token_BxR, step, cache)

  def last_logits(self, token_BxR, step, cache):
    self._count(token_BxR, step)
    return self._last(token_BxR, step, cache)


@pytest.mark.parametrize("skip", [True, False])
def test_the_model_sees_only_beams_with_a_choice_where_they_are_few(rng, skip):
  # Of 16 prefixes of two tokens 10 have one item, 6 have two; of the longest
  # prefixes 2 have two items.
  pairs = np.stack(np.unravel_index(np.arange(16), (4, 4)), axis=1)
  third = np.zeros((16, 1), int)
  semantic = np.concatenate(
    [
      np.hstack([pairs, third]),
      np.hstack([pairs[:4], third[:4] + 1]),
      np.hstack([pairs[4:6], third[:2]]),
    ]
  )
  ids = assign_rec_ids(semantic, 4, np.arange(22))
  logits = jnp.asarray(rng.normal(size=(3, 5, 4, 4)), jnp.float32)
  last = jnp.asarray(rng.normal(size=(4, ids.vocabulary[-1])), jnp.float32)
  model = Recorded(logits, last)
  items, scores = beam_search(
    model.step_logits, model.last_logits, jnp.zeros((2, 1), jnp.int32),
    build_trie(ids), jnp.full((2, 1), -1), 22, True, skip_sure=skip,
  )  # fmt: skip
  items, scores = np.asarray(items), np.asarray(scores)
  jax.effects_barrier()
  # Step 1 has 4 live beams, all with a choice; step 2 has 6 of 16; the last
  # one 2 of 20. Of 22, a tenth is 3 and three quarters are 17.
  asked = [(0, 1), (1, 17), (2, 17), (3, 3)]
  assert model.asked == (asked if skip else [(0, 1), (1, 22), (2, 22), (3, 22)])
  exact = all_scores(ids, logits, last, True)
  assert sorted(items[0]) == list(range(22))
  np.testing.assert_allclose(exact[items], scores, atol=1e-5)


def test_leaving_sure_beams_out_changes_nothing(rng):
  """Also where a beam is asked for again after others were left out."""
  for trial in range(8):
    items = int(rng.integers(2, 60))
    ids, logits, last = random_case(rng, items, int(rng.integers(2, 9)))
    history = np.full((2, 20), -1)
    history[0, :1] = rng.integers(items)
    width = int(rng.integers(2, 40))
    form = ("packed", "dense")[trial % 2]
    found = [
      list(search(ids, logits, last, history, width, form=form, skip=skip))
      for skip in (True, False)
    ]
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-6)


def test_masked_log_softmax_of_nothing_is_not_nan():
  logits = jnp.zeros((2, 3))
  out = masked_log_softmax(logits, jnp.zeros((2, 3), bool), renormalise=True)
  assert np.isneginf(out).all()
