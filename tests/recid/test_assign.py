import numpy as np
import pytest

from mmgrec_jax.arrays import write_arrays
from mmgrec_jax.errors import UserError
from mmgrec_jax.recid import assign


def test_popularity_orders_a_group_and_ties_go_by_item():
  semantic = np.array([[1, 2, 0], [3, 0, 0], [1, 2, 0], [1, 2, 0], [1, 2, 0]])
  popularity = np.array([5, 1, 9, 5, 0])
  ids = assign.assign_rec_ids(semantic, 4, popularity)
  assert ids.tokens_IxM[:, 3].tolist() == [1, 0, 0, 2, 3]
  assert ids.vocabulary == (4, 4, 4, 4)
  assert np.array_equal(ids.tokens_IxM[:, :3], semantic)


@pytest.mark.parametrize("last_token", ["popularity", "random"])
def test_rec_ids_are_a_bijection_for_any_catalogue(last_token, rng):
  for items in (1, 2, 17, 200):
    for size in (1, 2, 9):
      semantic = rng.integers(0, size, (items, 3))
      ids = assign.assign_rec_ids(
        semantic, size, rng.integers(0, 3, items), last_token, seed=items
      )
      assert len(np.unique(ids.tokens_IxM, axis=0)) == items
      for group in np.unique(semantic, axis=0):
        members = (semantic == group).all(axis=1)
        ranks = np.sort(ids.tokens_IxM[members, 3])
        assert np.array_equal(ranks, np.arange(members.sum()))


def test_random_differs_from_popularity_and_follows_its_seed():
  semantic, popularity = np.zeros((50, 3), int), np.arange(50)
  draw = lambda seed: (
    assign.assign_rec_ids(semantic, 1, popularity, "random", seed).tokens_IxM
  )
  assert np.array_equal(draw(1), draw(1))
  assert not np.array_equal(draw(1), draw(2))
  by_popularity = assign.assign_rec_ids(semantic, 1, popularity).tokens_IxM
  assert np.array_equal(by_popularity[:, 3], np.arange(50)[::-1])


@pytest.mark.parametrize("sizes", [(3, 4, 9), (200,) * 9, (2**40, 2**40)])
def test_order_is_lexicographic_when_keys_need_several_words(rng, sizes):
  # Few values, so that each column matters; both ends of its range.
  tokens = np.stack([rng.choice([0, 1, v - 1], 500) for v in sizes], axis=1)
  tokens = rng.permutation(np.unique(tokens, axis=0))
  order = assign.RecIds(tokens, sizes).lexicographic_order
  ordered = list(map(tuple, tokens[order].tolist()))
  assert ordered == sorted(ordered) and len(set(order)) == len(tokens)


def test_a_kill_while_saving_leaves_the_old_file(tmp_path, monkeypatch):
  old, new = (
    assign.assign_rec_ids(np.zeros((n, 2), int), 1, np.arange(n))
    for n in (3, 5)
  )
  path = tmp_path / "recids.npz"
  assign.save_rec_ids(old, path)

  def killed(file, **arrays):
    file.write_bytes(b"half")
    raise KeyboardInterrupt

  monkeypatch.setattr(np, "savez", killed)
  with pytest.raises(KeyboardInterrupt):
    assign.save_rec_ids(new, path)
  assert len(assign.load_rec_ids(path).tokens_IxM) == 3


def test_save_and_load_keep_ids_and_check_them(tmp_path, rng):
  ids = assign.assign_rec_ids(
    rng.integers(0, 3, (40, 3)), 3, rng.integers(0, 9, 40)
  )
  path = tmp_path / "recids.npz"
  assign.save_rec_ids(ids, path)
  back = assign.load_rec_ids(path)
  assert np.array_equal(back.tokens_IxM, ids.tokens_IxM)
  assert back.vocabulary == ids.vocabulary

  shared, high = ids.tokens_IxM.copy(), ids.tokens_IxM.copy()
  shared[7], high[5, 1] = shared[3], 3
  order = ids.lexicographic_order
  for changes, says in [
    ({"tokens": shared}, "belongs to item rows 3 and 7"),
    ({"tokens": high}, "item row 5 has token 3 at level 2"),
    ({"tokens": ids.tokens_IxM.astype(str)}, "'tokens' is <U11 of shape"),
    ({"tokens": ids.tokens_IxM[0]}, r"'tokens' is int32 of shape \(4,\)"),
    ({"vocabulary": np.arange(2, 5)}, r"of \[M\], M = 4 was written"),
    ({"vocabulary": np.zeros(4, int)}, "values from 0 to 0, outside 1"),
    ({"order": order[::-1]}, "'order' is not the lexicographic"),
    ({"order": order[1:]}, r"of \[I\], I = 40 was written; delete it"),
  ]:
    arrays = {
      "tokens": ids.tokens_IxM,
      "vocabulary": np.array(ids.vocabulary),
      "order": order,
    }
    write_arrays(path, arrays | changes)
    with pytest.raises(UserError, match=f"recids.npz: .*{says}"):
      assign.load_rec_ids(path)


def test_rec_ids_of_other_items_are_refused(tmp_path):
  ids = assign.assign_rec_ids(np.zeros((5, 3), int), 1, np.arange(5))
  assign.save_rec_ids(ids, tmp_path / "recids.npz")
  assert len(assign.load_rec_ids(tmp_path / "recids.npz", 5).tokens_IxM) == 5
  with pytest.raises(UserError, match="'tokens' is int32 .*I = 6"):
    assign.load_rec_ids(tmp_path / "recids.npz", 6)
