import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.data import sampling
from mmgrec_jax.training import parallel
from mmgrec_jax.training.soft_targets import Lists


def assert_trees(a, b, **tolerance):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def two_items() -> Lists:
  """A teacher that likes two items, the same for each user."""
  return Lists(
    jnp.tile(jnp.array([7, 11]), (40, 1)), jnp.zeros((40, 2), jnp.float32)
  )


@pytest.mark.parametrize(
  "kind", ["generator", "taught", "embedding", "sampled"]
)
def test_any_number_of_devices_makes_the_same_parameters(
  kind, make_generator_task, make_embedding_task, train, monkeypatch
):
  # A k-means codeword of one item has a gradient of rounding errors alone, and
  # Adam makes full steps of them; uniform codewords lie on no item.
  make = {
    "generator": lambda: make_generator_task(dropout=0.2),
    "taught": lambda: make_generator_task(share=1.0, lists=two_items()),
    "embedding": lambda: make_embedding_task(
      codebook_start="uniform", dropout=0.2
    ),
    "sampled": lambda: make_embedding_task(
      codebook_start="uniform", dropout=0.2, fan_out=(3, 2)
    ),
  }

  # Four devices share none of these batches evenly.
  four, _ = train(make[kind](), 5)
  with monkeypatch.context() as patch:
    patch.setattr(parallel, "devices", lambda: jax.local_devices()[:1])
    one, _ = train(make[kind](), 5)
  assert_trees(four.params, one.params, atol=2e-5)
  assert_trees(four.extra, one.extra, atol=2e-4)


def test_generator_loss_falls_and_is_logged_by_level(
  make_generator_task, train
):
  task = make_generator_task(warmup=0.0, learning_rate=1e-2)
  _, metrics = train(task, 3 * task.steps_per_epoch)
  first, last = metrics[0]["loss"].mean(), metrics[-1]["loss"].mean()
  assert last < 0.95 * first
  levels = [metrics[0][f"level_{m}"] for m in range(1, 5)]
  np.testing.assert_allclose(np.mean(levels, 0), metrics[0]["loss"], rtol=1e-5)


def test_the_teacher_alone_is_learned_from_its_lists(
  make_generator_task, train
):
  task = make_generator_task(
    share=1.0,
    lists=two_items(),
    name="muon",
    schedule="constant",
    learning_rate=3e-2,
  )
  _, metrics = train(task, 30 * task.steps_per_epoch)
  # What is left is which of the two, at most, over 4 levels.
  assert metrics[0]["loss"][0] > 1
  assert metrics[-1]["loss"].mean() < np.log(2) / 4


@pytest.mark.parametrize("share", [0.7, 1.0])
def test_only_the_teacher_alone_sees_whole_histories(
  share, make_generator_task, train, monkeypatch
):
  draw, whole = sampling.draw_windows, []

  def noted(*args, **flags):
    whole.append(flags["whole"])
    return draw(*args, **flags)

  monkeypatch.setattr(sampling, "draw_windows", noted)
  train(make_generator_task(share=share), 1)
  assert set(whole) == {share == 1}


def test_bpr_loss_falls_and_is_logged_by_term(make_embedding_task, train):
  task = make_embedding_task()
  _, metrics = train(task, 3 * task.steps_per_epoch)
  assert metrics[-1]["bpr"].mean() < metrics[0]["bpr"].mean()
  assert {"loss", "bpr", "l2", "rqvae"} <= metrics[0].keys()


def test_both_forms_of_the_graph_train_alike(make_embedding_task, train):
  ell, _ = train(make_embedding_task(graph="ell"), 3)
  segment, _ = train(make_embedding_task(graph="segment"), 3)
  assert_trees(ell.params, segment.params, atol=1e-5)


def test_sampled_neighbourhoods_of_all_neighbours_train_alike(
  make_embedding_task, train
):
  make = lambda **kind: make_embedding_task(codebook_start="uniform", **kind)
  whole, sampled = make(), make(fan_out=(40, 40))
  assert_trees(whole.init(), sampled.init(), rtol=0, atol=0)
  whole, _ = train(whole, 5)
  sampled, _ = train(sampled, 5)
  assert_trees(whole.params, sampled.params, atol=2e-5)
  assert_trees(whole.extra.params, sampled.extra.params, atol=2e-4)


def test_rqvae_moves_nothing_in_the_gcn(make_embedding_task, train):
  plain, _ = train(make_embedding_task(), 4)
  strong, _ = train(make_embedding_task(beta=50.0), 4)
  assert_trees(plain.params, strong.params, rtol=0, atol=0)
  # It did train: the two RQ-VAEs differ.
  a, b = plain.extra.params, strong.extra.params
  assert np.abs(a["codebooks"] - b["codebooks"]).max() > 1e-5


def test_quantizing_features_leaves_the_gcn_alone_too(
  make_embedding_task, train
):
  of_h, _ = train(make_embedding_task(), 3)
  of_features, _ = train(make_embedding_task(quantize_features=True), 3)
  assert_trees(of_h.params, of_features.params, rtol=0, atol=0)
  kernel = of_features.extra.params["encoder_1"]["kernel"]
  assert kernel.shape[0] == 24  # the text features' width


def test_unused_codewords_are_reseeded_at_the_end_of_an_epoch(
  make_embedding_task, train
):
  task = make_embedding_task()

  def with_dead_codeword():
    state = task.init()
    books = state.extra.params["codebooks"].at[:, 0].set(1e3)
    params = {**state.extra.params, "codebooks": books}
    return state.replace(extra=state.extra.replace(params=params))

  changed = task.__class__(**{**vars(task), "init": with_dead_codeword})
  before, _ = train(changed, task.steps_per_epoch - 1)
  assert (np.abs(before.extra.params["codebooks"][:, 0]) > 900).all()
  assert (before.extra.extra[:, 0] == 0).all()
  after, _ = train(changed, task.steps_per_epoch)
  assert (np.abs(after.extra.params["codebooks"]) < 100).all()
  assert (after.extra.extra == 0).all()


def test_dropout_differs_by_step_and_repeats_by_seed(
  make_generator_task, train
):
  a, _ = train(make_generator_task(dropout=0.5), 2)
  b, _ = train(make_generator_task(dropout=0.5), 2)
  c, _ = train(make_generator_task(dropout=0.0), 2)
  assert_trees(a.params, b.params, rtol=0, atol=1e-6)
  assert any(
    np.abs(x - y).max() > 1e-6
    for x, y in zip(
      jax.tree.leaves(a.params), jax.tree.leaves(c.params), strict=True
    )
  )
