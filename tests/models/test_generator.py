import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.config import CHOICES
from mmgrec_jax.decoding import generate as decoding
from mmgrec_jax.decoding.log_probs import at_tokens, token_log_probs
from mmgrec_jax.decoding.trie import build_trie
from mmgrec_jax.models.generator import Generator, Vectors
from mmgrec_jax.recid.assign import assign_rec_ids
from mmgrec_jax.training.generating import init_params

ENCODERS = CHOICES["generator.encoder"]
USERS, ITEMS, D, L = 4, 20, 8, 4


# Compiled whole: one by one, compiling the operations takes far longer.
init = jax.jit(init_params, static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def forward(model, params, *args):
  return model.apply({"params": params}, *args, train=False)


@functools.partial(jax.jit, static_argnums=0)
def encode(model, params, *args):
  return model.apply({"params": params}, *args, train=False, method="encode")


generate = jax.jit(decoding.generate, static_argnums=(0, 6, 7))


def setup(rng, **changes):
  ids = assign_rec_ids(
    rng.integers(0, L, (ITEMS, 3)), L, rng.integers(0, 5, ITEMS)
  )
  vectors = Vectors(
    jnp.asarray(rng.normal(size=(USERS, D)), jnp.float32),
    jnp.asarray(rng.normal(size=(ITEMS, D)), jnp.float32),
    jnp.asarray(ids.tokens_IxM),
  )
  fields = dict(
    vocabulary=ids.vocabulary,
    n_items=ITEMS,
    width=D,
    encoder_layers=2,
    decoder_layers=2,
    heads=2,
    encoder_head_width=6,
    decoder_head_width=5,
    feed_forward=12,
  )
  model = Generator(**{**fields, **changes})
  history = np.full((USERS, 7), -1)
  for u, n in enumerate((7, 3, 1, 0)):
    history[u, :n] = rng.choice(ITEMS, n, replace=False)
  history = jnp.asarray(history)
  tokens = jnp.asarray(ids.tokens_IxM[rng.integers(0, ITEMS, (USERS, 3))])
  args = (vectors, jnp.arange(USERS), history, tokens)
  params = init(model, vectors, jax.random.key(0))
  return model, params, build_trie(ids), args


@pytest.mark.parametrize("encoder", ["relation", "none"])
def test_history_permutation_leaves_scores_equal(rng, encoder):
  model, params, _, args = setup(rng, encoder=encoder)
  vectors, user, history, tokens = args
  order = np.asarray(history).copy()
  for u, n in enumerate((7, 3, 1, 0)):
    order[u, :n] = rng.permutation(order[u, :n])
  a = forward(model, params, *args)
  b = forward(model, params, vectors, user, jnp.asarray(order), tokens)
  for x, y in zip(a, b, strict=True):
    np.testing.assert_allclose(x, y, atol=1e-5)


def test_sinusoidal_encoder_sees_the_order(rng):
  model, params, _, args = setup(rng, encoder="sinusoidal")
  vectors, user, history, tokens = args
  a = forward(model, params, *args)[0]
  b = forward(model, params, vectors, user, history[:, ::-1], tokens)[0]
  assert np.abs(a[0] - b[0]).max() > 1e-3


@pytest.mark.parametrize("encoder", ENCODERS)
def test_padding_has_zero_effect(rng, encoder):
  model, params, _, args = setup(rng, encoder=encoder)
  vectors, user, history, tokens = args
  longer = jnp.pad(history, [(0, 0), (0, 3)], constant_values=-1)
  a = forward(model, params, *args)
  b = forward(model, params, vectors, user, longer, tokens)
  for x, y in zip(a, b, strict=True):
    np.testing.assert_allclose(x, y, atol=1e-5)
    assert np.isfinite(x).all()


def test_padding_has_zero_gradient(rng):
  model, params, _, args = setup(rng)
  vectors, user, history, tokens = args

  def total(item_IxD):
    moved = dataclasses.replace(vectors, item_IxD=item_IxD)
    out = forward(model, params, moved, user[1:], history[1:], tokens[1:])
    return sum(x.sum() for x in out)

  gradient = np.abs(jax.grad(total)(vectors.item_IxD)).sum(axis=1)
  used = np.zeros(ITEMS, bool)
  used[np.asarray(history[1:])[np.asarray(history[1:]) >= 0]] = True
  # Padding reads row 0; it must not leak into that row's gradient.
  assert (gradient[~used] == 0).all()
  assert (gradient[used] > 0).all()


def test_decoder_is_causal_by_gradient(rng):
  model, params, _, args = setup(rng)
  vectors, user, history, tokens = args
  table = params["tokens"]["embedding"]

  def output_at(table, position):
    changed = {**params, "tokens": {"embedding": table}}
    semantic, last = forward(model, changed, vectors, user, history, tokens)
    return last.sum() if position == 3 else semantic[:, :, position].sum()

  # Row 1 + m L + t of the table is token t of level m, read at m + 1.
  for position in range(4):
    gradient = np.abs(jax.grad(output_at)(table, position)).sum(axis=1)
    by_level = [gradient[1 + m * L : 1 + (m + 1) * L].sum() for m in range(3)]
    assert gradient[0] > 0
    assert all(g > 0 for g in by_level[:position])
    assert all(g == 0 for g in by_level[position:])


@functools.partial(jax.jit, static_argnums=0)
def log_probs_of_all_items(model, params, trie, vectors, user, history):
  items = jnp.broadcast_to(jnp.arange(ITEMS), (len(user), ITEMS))
  tokens = trie.tokens(items)
  logits = forward(model, params, vectors, user, history, tokens)
  log_p = token_log_probs(*logits, trie, items, model.trie_softmax)
  return at_tokens(log_p, tokens)


def test_trie_softmax_is_a_distribution_over_items(rng):
  model, params, trie, (vectors, user, history, _) = setup(rng)
  log_p = log_probs_of_all_items(model, params, trie, vectors, user, history)
  np.testing.assert_allclose(np.exp(log_p.sum(-1)).sum(-1), 1, atol=1e-5)


def test_full_softmax_wastes_mass_on_invalid_ids(rng):
  model, params, trie, (vectors, user, history, _) = setup(
    rng, trie_softmax=False
  )
  log_p = log_probs_of_all_items(model, params, trie, vectors, user, history)
  assert (np.exp(log_p.sum(-1)).sum(-1) < 0.9).all()


@pytest.mark.parametrize("trie_softmax", [True, False])
def test_beam_search_equals_teacher_forcing(rng, trie_softmax):
  """Cached decoding of all items gives the uncached log-probabilities."""
  model, params, trie, args = setup(rng, trie_softmax=trie_softmax)
  vectors, user, history, _ = args
  exact = np.asarray(
    log_probs_of_all_items(model, params, trie, vectors, user, history)
  ).sum(-1)
  for u in range(USERS):
    exact[u, np.asarray(history[u])[np.asarray(history[u]) >= 0]] = -np.inf
  items, scores = generate(
    model, params, vectors, trie, user, history, 7, ITEMS + 3
  )
  np.testing.assert_allclose(
    scores[:, :ITEMS], -np.sort(-exact, axis=1), atol=1e-4
  )
  for u in range(USERS):
    unseen = np.flatnonzero(exact[u] > -np.inf)
    got = np.asarray(items[u])
    assert sorted(got[got >= 0]) == unseen.tolist()


def test_decode_step_by_step_equals_whole_sequence(rng):
  model, params, _, (vectors, user, history, tokens) = setup(rng)
  whole, last = forward(model, params, vectors, user, history, tokens)
  call = lambda *a, **k: model.apply({"params": params}, *a, **k)
  decode_step = jax.jit(functools.partial(call, method="decode_step"))
  memory = encode(model, params, vectors, user, history)
  cache = call(USERS, 3, method="empty_cache")
  before = jnp.zeros((USERS, 3), jnp.int32)
  for m in range(4):
    x, cache = decode_step(before, jnp.int32(m), cache, memory)
    if m < 3:
      got = call(x, jnp.int32(m), method="semantic_logits")
      np.testing.assert_allclose(got, whole[:, :, m], atol=1e-5)
      before = tokens[:, :, m]
  np.testing.assert_allclose(call(x, method="last_logits"), last, atol=1e-5)


def test_only_the_read_part_of_a_history_matters_but_all_is_excluded(rng):
  model, params, trie, (vectors, user, history, _) = setup(rng)
  short = generate(model, params, vectors, trie, user, history, 2, 5)
  cut = jnp.where(jnp.arange(7)[None] < 2, history, -1)
  read_cut = encode(model, params, vectors, user, cut)
  read_all = encode(model, params, vectors, user, history[:, :2])
  key = lambda memory: memory.layers[0][0][:, :2]
  np.testing.assert_allclose(
    np.asarray(key(read_all))[0], np.asarray(key(read_cut))[0], atol=1e-5
  )
  for u in range(USERS):
    assert not set(np.asarray(short[0][u])) & set(np.asarray(history[u])) - {-1}


@pytest.mark.parametrize("kind", ["pretrained", "finetuned", "learned"])
def test_item_embeddings(rng, kind):
  model, params, _, (vectors, *rest) = setup(rng, item_embedding=kind)
  assert ("items" in params) == (kind != "pretrained")
  if kind == "finetuned":
    np.testing.assert_array_equal(params["items"], vectors.item_IxD)
  moved = dataclasses.replace(vectors, item_IxD=vectors.item_IxD + 1)
  same = np.array_equal(
    forward(model, params, vectors, *rest)[0],
    forward(model, params, moved, *rest)[0],
  )
  assert same == (kind != "pretrained")


def test_reading_rec_ids_needs_no_vectors_and_sees_every_token(rng):
  model, params, trie, (vectors, user, history, tokens) = setup(
    rng, item_embedding="rec_id", encoder="sinusoidal"
  )
  bare = Vectors(tokens_IxM=vectors.tokens_IxM)
  a = forward(model, params, bare, user, history, tokens)
  items, _ = generate(model, params, bare, trie, user, history, 7, 5)
  assert (np.asarray(items) >= 0).all()
  for level in range(4):
    read = history[0, 1]
    moved = bare.tokens_IxM.at[read, level].set(
      (bare.tokens_IxM[read, level] + 1) % model.vocabulary[level]
    )
    if model.vocabulary[level] == 1:
      continue
    b = forward(model, params, Vectors(tokens_IxM=moved), user, history, tokens)
    assert np.abs(a[0][0] - b[0][0]).max() > 1e-4
    # The last user has no history, so nothing of it to read.
    np.testing.assert_array_equal(a[0][3], b[0][3])


def test_encoder_reads_the_decoders_token_embeddings(rng):
  """One table for both: TIGER's tokens mean the same in and out."""
  model, params, _, (vectors, user, history, tokens) = setup(
    rng, item_embedding="rec_id", encoder="none"
  )
  one = jnp.zeros((1, 1), jnp.int32)

  def memory(params):
    encoded = encode(model, params, vectors, user[:1], one)
    return sum(a.sum() for layer in encoded.layers for a in layer)

  gradient = jax.grad(memory)(params)
  row = np.abs(gradient["tokens"]["embedding"]).sum(axis=1)
  own = np.asarray(vectors.tokens_IxM[0])
  assert set(np.flatnonzero(row)) == {1 + m * L + own[m] for m in range(3)}
  last = np.abs(gradient["last_tokens"]["embedding"]).sum(axis=1)
  assert np.flatnonzero(last).tolist() == [own[3]]


def test_user_vectors_reach_the_relation_encoder_only(rng):
  for encoder in ENCODERS:
    model, params, _, (vectors, *rest) = setup(rng, encoder=encoder)
    moved = dataclasses.replace(vectors, user_UxD=vectors.user_UxD[::-1])
    same = np.array_equal(
      forward(model, params, vectors, *rest)[0],
      forward(model, params, moved, *rest)[0],
    )
    assert same == (encoder != "relation")


def test_bfloat16_compute_keeps_float32_parameters_and_scores(rng):
  model, params, trie, (vectors, user, history, _) = setup(
    rng, dtype=jnp.bfloat16
  )
  assert all(a.dtype == jnp.float32 for a in jax.tree.leaves(params))
  items, scores = generate(model, params, vectors, trie, user, history, 7, 5)
  assert scores.dtype == jnp.float32 and (np.asarray(items) >= 0).all()
