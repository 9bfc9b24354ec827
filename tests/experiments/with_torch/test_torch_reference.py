from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from experiments.torch_reference import decode, train
from experiments.torch_reference.layers import Config
from experiments.torch_reference.model import TorchMMGRec
from experiments.torch_reference.tables import TorchTables
from mmgrec_jax.errors import UserError
from mmgrec_jax.recid.assign import assign_rec_ids

ORACLE = Path(__file__).parents[2] / "oracles" / "mmgrec_generator.npz"
USERS = 4


def make_model(items, vocabulary, users=USERS, dropout=0.0):
  torch.manual_seed(0)
  model = TorchMMGRec(
    Config(
      users,
      items,
      vocabulary,
      width=16,
      heads=2,
      head_width=16,
      feed_forward=16,
      dropout=dropout,
    )
  )
  # Sharper than at the start, so that orders do not hang on rounding.
  model.projection.weight.data *= 3
  return model.eval()


def make_case(rng, items, size):
  """A catalogue with clashing Rec-IDs, a model, and histories of 0 to 6."""
  ids = assign_rec_ids(
    rng.integers(0, size, (items, 3)), size, rng.integers(0, 4, items)
  )
  tables = TorchTables.from_rec_ids(ids.tokens_IxM, ids.vocabulary)
  history = np.full((USERS, 6), -1)
  for user, n in enumerate((0, 1, 3, 6)):
    n = min(n, items)
    history[user, :n] = rng.choice(items, n, replace=False)
  model = make_model(items, max(ids.vocabulary) + 2)
  return model, tables, torch.arange(USERS), torch.from_numpy(history)


def seen_of(history_BxH, user):
  return [item for item in history_BxH[user].tolist() if item >= 0]


def item_log_probs(model, tables, user_B, history_BxH):
  """Of every item, float32 [B, I], by teacher forcing; softmax over the trie.

  All items of the catalogue are targets of one encoding.
  """
  tokens_IxM = tables.tokens_IxM.long()
  inputs_IxM = F.pad(tokens_IxM, (1, 0), value=model.start_token)[:, :-1]
  inputs_BxIxM = inputs_IxM.expand(len(user_B), -1, -1)
  logits_BxIxMxV = model(user_B, history_BxH, inputs_BxIxM).detach()
  score_BxI = torch.zeros(logits_BxIxMxV.shape[:2])
  for i, rec_id in enumerate(tokens_IxM):
    for m in range(len(rec_id)):
      siblings = (tokens_IxM[:, :m] == rec_id[:m]).all(1)
      valid = tokens_IxM[siblings, m].unique()
      allowed = logits_BxIxMxV[:, i, m, valid].logsumexp(-1)
      score_BxI[:, i] += logits_BxIxMxV[:, i, m, rec_id[m]] - allowed
  return score_BxI


def test_model_agrees_with_the_published_architecture():
  oracle = np.load(ORACLE)
  tensor = lambda name: torch.from_numpy(oracle[name]).long()
  model = make_model(30, 12, users=6)
  names = [name for name in oracle.files if name.startswith("param/")]
  model.load_state_dict(
    {name[len("param/") :]: torch.from_numpy(oracle[name]) for name in names}
  )
  user, history = tensor("input/user_U"), tensor("input/history_UxN") - 1
  encoded, _ = model.encoder(user, history)
  logits = model(user, history, tensor("input/decoder_UxM1")[:, None])[:, 0]
  loss = F.cross_entropy(
    logits.flatten(0, 1), tensor("input/target_UxM1").flatten()
  )
  loss.backward()
  found = {
    "output/encoder_UxNxD": encoded,
    "output/logits_UxM1xV": logits,
    "output/loss": loss,
  }
  for name, parameter in model.named_parameters():
    if parameter.grad is not None:
      found[f"grad/{name}"] = parameter.grad
  expected = [n for n in oracle.files if n.startswith(("output/", "grad/"))]
  assert sorted(found) == sorted(expected)
  for name, value in found.items():
    np.testing.assert_allclose(
      value.detach().numpy(), oracle[name], rtol=0, atol=3e-6, err_msg=name
    )


@pytest.mark.parametrize("K", [1, 4, 45])
def test_batched_search_finds_what_the_repaired_loop_finds(rng, K):
  model, tables, user_B, history_BxH = make_case(rng, 40, 4)
  item_BxK, score_BxK = decode.batched_generate(
    model, tables, user_B, history_BxH, K
  )
  for user in range(USERS):
    seen = seen_of(history_BxH, user)
    beams = decode.reference_generate(model, user, seen, K, 4, tables)
    assert len(beams) == min(K, 40 - len(seen))
    found = [tables.item_of(tokens) for tokens, _ in beams]
    assert item_BxK[user].tolist() == found + [-1] * (K - len(found))
    np.testing.assert_allclose(
      score_BxK[user, : len(found)], [s for _, s in beams], atol=2e-5
    )
    assert torch.isneginf(score_BxK[user, len(found) :]).all()


@pytest.mark.parametrize(("items", "size"), [(1, 1), (12, 3), (40, 5)])
def test_batched_equals_brute_force_when_K_covers_catalogue(rng, items, size):
  model, tables, user_B, history_BxH = make_case(rng, items, size)
  exact_BxI = item_log_probs(model, tables, user_B, history_BxH)
  np.testing.assert_allclose(exact_BxI.exp().sum(1), 1, atol=1e-4)
  item_BxK, score_BxK = decode.batched_generate(
    model, tables, user_B, history_BxH, items + 3
  )
  for user in range(USERS):
    seen = seen_of(history_BxH, user)
    unseen = sorted(set(range(items)) - set(seen))
    found = item_BxK[user, : len(unseen)].long()
    assert sorted(found.tolist()) == unseen
    assert (item_BxK[user, len(unseen) :] == -1).all()
    np.testing.assert_allclose(
      score_BxK[user, : len(unseen)], exact_BxI[user, found], atol=1e-4
    )
    assert (score_BxK[user, : len(unseen)].diff() <= 0).all()


def test_no_seen_repeated_or_invalid_item_for_any_catalogue_and_width(rng):
  for trial in range(25):
    items, size = int(rng.integers(1, 60)), int(rng.integers(1, 6))
    model, tables, user_B, _ = make_case(rng, items, size)
    K = int(rng.integers(1, items + 10))
    history = np.full((USERS, 50), -1)
    for b in range(USERS):
      n = int(rng.integers(0, min(items, 50) + 1))
      history[b, :n] = rng.choice(items, n, replace=False)
    item_BxK, _ = decode.batched_generate(
      model, tables, user_B, torch.from_numpy(history), K
    )
    for b in range(USERS):
      seen = set(history[b]) - {-1}
      found = [item for item in item_BxK[b].tolist() if item >= 0]
      # As many as asked for, or all that are left: exclusion is exact.
      assert len(found) == min(K, items - len(seen)), trial
      assert len(set(found)) == len(found) and not set(found) & seen
      assert max(found, default=0) < items


def test_items_behind_history_length_are_excluded_but_not_read(rng):
  model, tables, user_B, history_BxH = make_case(rng, 40, 4)
  short_BxH = history_BxH[:, :2]
  exact_BxI = item_log_probs(model, tables, user_B, short_BxH)
  item_BxK, score_BxK = decode.batched_generate(
    model, tables, user_B, history_BxH, 40, history_length=2
  )
  found = item_BxK[3, :34].long()
  assert set(found.tolist()) == set(range(40)) - set(seen_of(history_BxH, 3))
  np.testing.assert_allclose(score_BxK[3, :34], exact_BxI[3, found], atol=1e-4)


def test_batched_search_is_one_static_graph(rng):
  model, tables, user_B, history_BxH = make_case(rng, 40, 4)
  arguments = (model, tables, user_B, history_BxH, 5)
  # A graph break or a branch on data would raise.
  compiled = torch.compile(
    decode.batched_generate, backend="eager", dynamic=False, fullgraph=True
  )
  item_BxK, score_BxK = compiled(*arguments)
  eager_item_BxK, eager_score_BxK = decode.batched_generate(*arguments)
  assert torch.equal(item_BxK, eager_item_BxK)
  assert torch.equal(score_BxK, eager_score_BxK)


def test_published_loop_searches_all_token_tuples(rng):
  model, tables, _, _ = make_case(rng, 6, 3)
  V = model.config.vocabulary
  beams = decode.reference_generate(model, 0, [1, 2], V * V, 2)
  assert len({tokens for tokens, _ in beams}) == V * V
  assert sum(np.exp(score) for _, score in beams) == pytest.approx(1, abs=1e-4)
  full = decode.reference_generate(model, 0, [1, 2], 30, 4)
  assert any(tables.item_of(tokens) == -1 for tokens, _ in full)


def test_rec_ids_must_leave_room_for_the_special_tokens(rng):
  _, tables, user_B, history_BxH = make_case(rng, 40, 4)
  model = make_model(40, 5)
  with pytest.raises(UserError, match="beside S and E; the model has 3"):
    decode.batched_generate(model, tables, user_B, history_BxH, 5)


def make_batch(rng, T):
  history = torch.from_numpy(rng.integers(0, 20, (USERS, 5)))
  tokens = torch.from_numpy(rng.integers(0, 6, (USERS, T, 4)))
  return torch.arange(USERS), history, tokens


def test_one_target_is_the_plain_sequence_loss(rng):
  model = make_model(20, 8)
  user, history, tokens = make_batch(rng, 1)
  sequence = F.pad(tokens[:, 0], (1, 0), value=6)
  logits = model(user, history, sequence[:, None])[:, 0]
  full = F.cross_entropy(
    logits.transpose(1, 2), F.pad(tokens[:, 0], (0, 1), value=7)
  )
  levels = F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 0])
  batch = (user, history, tokens)
  assert train.token_loss(model, *batch).item() == pytest.approx(full.item())
  assert train.token_loss(
    model, *batch, levels_only=True
  ).item() == pytest.approx(levels.item())


def test_targets_that_share_an_encoding_do_not_see_each_other(rng):
  model = make_model(20, 8)
  user, history, tokens = make_batch(rng, 3)

  def loss_and_grad(tokens):
    loss = train.token_loss(model, user, history, tokens)
    trained = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss, trained, allow_unused=True)
    return loss.item(), torch.cat([g.flatten() for g in grads if g is not None])

  loss, grad = loss_and_grad(tokens)
  each = [loss_and_grad(tokens[:, t : t + 1]) for t in range(3)]
  assert loss == pytest.approx(np.mean([loss for loss, _ in each]), rel=1e-5)
  np.testing.assert_allclose(grad, sum(g for _, g in each) / 3, atol=1e-6)


def test_training_lowers_the_loss_and_leaves_embeddings_frozen(rng):
  model = make_model(20, 8)
  batch = make_batch(rng, 2)
  before = {name: p.clone() for name, p in model.named_parameters()}
  step = train.make_train_step(model, train.make_optimizer(model), False)
  losses = [step(*batch).item() for _ in range(8)]
  assert all(np.diff(losses) < 0)
  kept = {n for n, p in model.named_parameters() if torch.equal(p, before[n])}
  frozen = {"encoder.src_emb.weight", "encoder.user_emb.weight"}
  assert frozen == {name for name in kept if "enc_self_attn" not in name}


def test_dropout_acts_in_training_only(rng):
  model = make_model(20, 8, dropout=0.5)
  batch = make_batch(rng, 1)
  still = train.token_loss(model, *batch).item()
  assert train.token_loss(model, *batch).item() == still
  step = train.make_train_step(model, train.make_optimizer(model), False)
  assert step(*batch).item() != still
