import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from mmgrec_jax.data.dataset import TRAIN
from mmgrec_jax.errors import UserError
from mmgrec_jax.models import item_item

N_ITEMS = 30  # of small_data


def settings(**of_model):
  return ConfigDict({"max_gib": 1.0, **of_model})


@pytest.fixture
def rows(small_data):
  return small_data.rows(TRAIN)


@pytest.fixture
def x_UxI(small_data):
  x = np.zeros((small_data.n_users, N_ITEMS))
  x[small_data.edges(TRAIN)] = 1
  return x


def dense(matrix):
  """The weights of a sparse matrix in their places."""
  out = np.zeros((N_ITEMS, N_ITEMS))
  rows = np.arange(N_ITEMS)[:, None]
  np.add.at(out, (rows, matrix["index_IxC"]), matrix["weight_IxC"])
  return out


def cosines(x_UxI, shrink):
  """Of all pairs of items, one by one; no item with itself."""
  out = np.zeros((N_ITEMS, N_ITEMS))
  for i in range(N_ITEMS):
    for j in range(N_ITEMS):
      a, b = x_UxI[:, i], x_UxI[:, j]
      norms = np.linalg.norm(a) * np.linalg.norm(b)
      if i != j and a @ b:
        out[i, j] = a @ b / (norms + shrink)
  return out


@pytest.mark.parametrize("l2", [0.5, 20.0])
def test_ease_is_a_ridge_regression_of_each_item_on_the_others(rows, x_UxI, l2):
  weight_IxI = item_item.ease(rows, N_ITEMS, settings(l2=l2))["weight_IxI"]
  for i in range(N_ITEMS):
    others = np.delete(np.arange(N_ITEMS), i)
    x = x_UxI[:, others]
    expected = np.linalg.solve(
      x.T @ x + l2 * np.eye(len(others)), x.T @ x_UxI[:, i]
    )
    np.testing.assert_allclose(weight_IxI[others, i], expected, atol=1e-6)
    assert weight_IxI[i, i] == 0


def test_ease_names_the_memory_it_would_need(rows):
  n_items = 86_483
  with pytest.raises(UserError, match=r"needs 83\.6 GiB.*max_gib=84"):
    item_item.ease(rows, n_items, settings(l2=1.0))


@pytest.mark.parametrize("shrink", [0.0, 5.0])
def test_item_knn_with_all_neighbours_has_every_cosine(rows, x_UxI, shrink):
  made = item_item.item_knn(
    rows, N_ITEMS, settings(neighbours=99, shrink=shrink)
  )
  expected = cosines(x_UxI, shrink)
  np.testing.assert_allclose(dense(made), expected, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 7, 256])
def test_item_knn_keeps_the_nearest_for_any_chunk(
  rows, x_UxI, chunk, monkeypatch
):
  monkeypatch.setattr(item_item, "CHUNK", chunk)
  made = item_item.item_knn(rows, N_ITEMS, settings(neighbours=4, shrink=1.0))
  every = cosines(x_UxI, 1.0)
  nearest = np.argsort(-every, axis=1, kind="stable")[:, :4]
  expected = np.take_along_axis(every, nearest, 1)
  np.testing.assert_allclose(made["weight_IxC"], expected, atol=1e-6)
  there = expected > 0
  assert np.array_equal(made["index_IxC"][there], nearest[there])


def test_an_item_without_training_has_no_weight(rows):
  more = N_ITEMS + 1
  knn = item_item.item_knn(rows, more, settings(neighbours=4, shrink=0.0))
  assert not knn["weight_IxC"][-1].any()
  ease = item_item.ease(rows, more, settings(l2=1.0))["weight_IxI"]
  assert not ease[-1].any() and not ease[:, -1].any()


def test_scores_are_the_users_row_times_the_matrix(rows, x_UxI):
  lengths = rows.lengths
  history_UxH = np.full((len(lengths), lengths.max()), -1)
  for u, (start, n) in enumerate(zip(rows.offset[:-1], lengths, strict=True)):
    history_UxH[u, :n] = rows.items[start : start + n]
  x = item_item.zeros_and_ones(jnp.asarray(history_UxH), N_ITEMS)
  assert np.array_equal(x, x_UxI)
  knn = item_item.item_knn(rows, N_ITEMS, settings(neighbours=4, shrink=1.0))
  full = item_item.ease(rows, N_ITEMS, settings(l2=1.0))
  for score, matrix, weight_IxI in (
    # An item's own neighbours count, not those that have it as theirs.
    (item_item.score_by_neighbours, knn, dense(knn).T),
    (item_item.score_by_all, full, full["weight_IxI"]),
  ):
    on_device = {name: jnp.asarray(a) for name, a in matrix.items()}
    np.testing.assert_allclose(
      score(on_device, x), x_UxI @ weight_IxI, atol=1e-5
    )
  some_UxK = np.random.default_rng(0).integers(N_ITEMS, size=(len(x), 5))
  np.testing.assert_allclose(
    item_item.scores_of(jnp.asarray(full["weight_IxI"]), history_UxH, some_UxK),
    np.take_along_axis(x_UxI @ full["weight_IxI"], some_UxK, axis=1),
    atol=1e-5,
  )
