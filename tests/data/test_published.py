import json
import pickle
import sys

import numpy as np
import pytest
from scipy import sparse

from mmgrec_jax.data import published
from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.errors import UserError

# user, item, split; user 2 has nothing, item 4 is nobody's.
ROWS = [
  (0, 0, 0), (0, 1, 0), (0, 2, 1), (1, 3, 0), (1, 0, 2), (3, 1, 0), (3, 3, 2)
]  # fmt: skip
N_USERS, N_ITEMS = 4, 5
VISUAL = np.arange(10, dtype=np.float32).reshape(N_ITEMS, 2)
TEXT = VISUAL[::-1, :1].copy()
NAMES = ("train", "val", "test")


def pairs(split):
  return [(user, item) for user, item, s in ROWS if s == split]


def write_features(folder, visual="image_feat.npy", text="text_feat.npy"):
  np.save(folder / visual, VISUAL)
  np.save(folder / text, TEXT)


def check(data: Dataset):
  triples = zip(
    data.user_ids[data.user_E].astype(int),
    data.item_ids[data.item_E].astype(int),
    data.split_E,
    strict=True,
  )
  assert sorted(triples) == sorted(ROWS)
  assert data.user_ids.tolist() == ["0", "1", "3"]
  assert data.n_items == N_ITEMS
  assert data.features.keys() == {"visual", "text"}
  assert np.array_equal(data.features["visual"], VISUAL)
  assert np.array_equal(data.features["text"], TEXT)


def read(folder, form):
  assert published.recognise(folder) == form
  return published.READERS[form](folder, "mine")


def write_mmrec(folder):
  rows = [f"{u}\t{i}\t5.0\t{9 - n}\t{s}" for n, (u, i, s) in enumerate(ROWS)]
  head = "userID\titemID\trating\ttimestamp\tx_label"
  (folder / "baby.inter").write_text("\n".join([head, *rows]) + "\n")
  write_features(folder)


def test_mmrec(tmp_path):
  write_mmrec(tmp_path)
  data = read(tmp_path, "mmrec")
  check(data)
  assert data.timestamp_E is not None
  assert data.timestamp_E.tolist() == [9, 8, 7, 6, 5, 4, 3]


def write_lists(folder, names, offset):
  np.save(folder / "train.npy", np.array(pairs(0)) + [0, offset])
  for split, name in enumerate(names, start=1):
    rows = [
      [u, *(i + offset for v, i in pairs(split) if v == u)] for u in (0, 1, 3)
    ]
    lists = np.empty(len(rows), object)
    lists[:] = rows
    np.save(folder / name, lists, allow_pickle=True)
  of_user = {u: [] for u in range(N_USERS)}
  np.save(folder / "user_item_dict.npy", np.array(of_user), allow_pickle=True)


def test_mmgcn_and_grcn_number_items_after_users(tmp_path):
  write_lists(tmp_path, ("val_full.npy", "test_full.npy"), offset=N_USERS)
  write_features(
    tmp_path, "FeatureVideo_normal.npy", "FeatureText_stl_normal.npy"
  )
  check(read(tmp_path, "mmgcn"))


def test_lightgt_numbers_items_from_0(tmp_path):
  write_lists(tmp_path, ("val.npy", "test.npy"), offset=0)
  write_features(tmp_path, "v_feat.npy", "kwai_t_64.npy")
  check(read(tmp_path, "mmgcn"))


def test_the_last_user_may_have_no_interaction(tmp_path):
  write_lists(tmp_path, ("val.npy", "test.npy"), offset=N_USERS + 2)
  of_user = {u: {} for u in range(N_USERS + 2)}
  np.save(tmp_path / "user_item_dict.npy", np.array(of_user), allow_pickle=True)
  write_features(tmp_path, "v_feat.npy", "kwai_t_64.npy")
  check(read(tmp_path, "mmgcn"))


def write_matrices(folder, names, form="csr"):
  for split, name in enumerate(names):
    user, item = np.array(pairs(split)).T
    matrix = sparse.coo_matrix(
      (np.ones(len(user)), (user, item)), (N_USERS, N_ITEMS)
    )
    (folder / name).write_bytes(pickle.dumps(matrix.asformat(form)))


@pytest.mark.parametrize("form", ["coo", "csr", "dok"])
def test_diffmm(tmp_path, form):
  write_matrices(tmp_path, ("trnMat.pkl", "valMat.pkl", "tstMat.pkl"), form)
  write_features(tmp_path)
  check(read(tmp_path, "mmssl"))


def test_mmssl_takes_lists_where_there_is_no_matrix(tmp_path):
  write_matrices(tmp_path, ("train_mat",))
  for split, name in enumerate(NAMES):
    of_user = {
      u: [i for v, i in pairs(split) if v == u] for u in range(N_USERS)
    }
    (tmp_path / f"{name}.json").write_text(json.dumps(of_user))
  write_features(tmp_path)
  check(read(tmp_path, "mmssl"))


def test_a_pair_in_two_splits_stays_in_training(tmp_path, capsys):
  write_matrices(tmp_path, ("trnMat.pkl", "valMat.pkl", "tstMat.pkl"))
  twice = sparse.coo_matrix(([1, 1], ([0, 0], [0, 2])), (N_USERS, N_ITEMS))
  (tmp_path / "valMat.pkl").write_bytes(pickle.dumps(twice))
  write_features(tmp_path)
  check(read(tmp_path, "mmssl"))
  assert "1 duplicates merged, split as stored" in capsys.readouterr().out


def test_word_numbers_become_a_bag_of_words(tmp_path):
  write_lists(tmp_path, ("val.npy", "test.npy"), offset=0)
  np.save(tmp_path / "v_feat.npy", VISUAL)
  words = np.array([[0, 0, 1, 1, 3], [70, 80, 70, 80, 90]])
  np.save(tmp_path / "t_feat.npy", words)
  text = read(tmp_path, "mmgcn").features["text"]
  assert len(text) == N_ITEMS
  assert np.allclose(text[0], text[1]) and not np.allclose(text[0], text[3])
  assert not text[[2, 4]].any()


@pytest.mark.parametrize("words", [
  [[0, 0, -1], [7, 8, 9]], [[0, 0, 2**40], [7, 8, 9]], [[0, 1], [7, 7]],
  [[], []],
])  # fmt: skip
def test_word_numbers_of_no_items_or_of_one_word_are_refused(tmp_path, words):
  write_lists(tmp_path, ("val.npy", "test.npy"), offset=0)
  np.save(tmp_path / "v_feat.npy", VISUAL)
  np.save(tmp_path / "t_feat.npy", np.array(words, np.int64))
  with pytest.raises(UserError, match="t_feat.npy: its item numbers go from"):
    read(tmp_path, "mmgcn")


def test_numbers_larger_than_any_are_refused(tmp_path):
  for name in ("train", "val", "test"):
    (tmp_path / f"{name}.json").write_text(f'{{"0": [{10**30}]}}')
  with pytest.raises(UserError, match="train.json: not of the form"):
    read(tmp_path, "mmssl")


@pytest.mark.parametrize("users", [{}, {"a": [4]}, {None: [4]}])
def test_a_table_of_users_that_names_none_is_no_crash(tmp_path, users):
  write_lists(tmp_path, ("val.npy", "test.npy"), offset=0)
  (tmp_path / "train.npy").unlink()
  np.save(tmp_path / "train.npy", [[0, 40], [1, 41]])
  for name in ("val", "test"):
    np.save(tmp_path / f"{name}.npy", [[0, 41]])
  np.save(tmp_path / "user_item_dict.npy", users, allow_pickle=True)
  if users:
    with pytest.raises(UserError, match="user_item_dict.npy: holds a dict"):
      read(tmp_path, "mmgcn")
  else:
    assert read(tmp_path, "mmgcn").n_users == 2


def test_a_tensor_without_torch_says_what_to_install(tmp_path, monkeypatch):
  write_lists(tmp_path, ("val.npy", "test.npy"), offset=0)
  (tmp_path / "feat_v.pt").write_bytes(b"PK")
  monkeypatch.setitem(sys.modules, "torch", None)
  with pytest.raises(UserError, match=r"feat_v\.pt: reading a \.pt needs PyT"):
    published.read_mmgcn(tmp_path, "mine")


class Bomb:
  def __reduce__(self):
    return print, ("ran",)


def test_malicious_files_are_refused_and_do_not_run(tmp_path, capsys):
  write_matrices(tmp_path, ("trnMat.pkl", "valMat.pkl", "tstMat.pkl"))
  (tmp_path / "tstMat.pkl").write_bytes(pickle.dumps(Bomb()))
  with pytest.raises(UserError, match=r"tstMat\.pkl: refused.*builtins\.print"):
    published.read_mmssl(tmp_path, "mine")
  write_lists(tmp_path, ("val.npy", "test.npy"), offset=0)
  np.save(tmp_path / "val.npy", np.array([Bomb()], object), allow_pickle=True)
  with pytest.raises(UserError, match=r"val\.npy: refused.*builtins\.print"):
    published.read_mmgcn(tmp_path, "mine")
  assert capsys.readouterr().out == ""


def test_each_fault_of_a_folder_is_named(tmp_path):
  with pytest.raises(UserError, match="in no form that is known"):
    published.recognise(tmp_path)
  write_mmrec(tmp_path)
  table = (tmp_path / "baby.inter").read_text()
  for text, says in [
    (table.replace("x_label", "fold"), "no column 'x_label'"),
    (table.replace("\t0\n", "\t7\n", 1), "'split' of row 0 is 7"),
    (
      table.replace("0\t1\t", "0\t1.5\t"),
      "the item numbers go from 0.0 to 3.0; they",
    ),
    (
      table.replace("3\t3\t", "3\t30\t"),
      "the visual feature has 5 rows, but .* 31",
    ),
    (table.replace("3\t3\t", "3\t-3\t"), "the item numbers go from -3 to 3"),
    (table.splitlines()[0] + "\n", "holds no interaction"),
  ]:
    (tmp_path / "baby.inter").write_text(text)
    with pytest.raises(UserError, match=says):
      published.read_mmrec(tmp_path, "mine")
  (tmp_path / "baby.inter").write_text(table)
  np.save(tmp_path / "image_feat.npy", VISUAL[:, 0])
  with pytest.raises(UserError, match=r"image_feat\.npy: float32 of shape"):
    published.read_mmrec(tmp_path, "mine")
  (tmp_path / "sports.inter").write_text(table)
  with pytest.raises(UserError, match=r"2 files are called \*\.inter"):
    published.read_mmrec(tmp_path, "mine")


def test_without_features_an_item_number_may_be_anything(tmp_path):
  write_mmrec(tmp_path)
  for feature in tmp_path.glob("*.npy"):
    feature.unlink()
  table = (tmp_path / "baby.inter").read_text()
  (tmp_path / "baby.inter").write_text(
    table.replace("3\t3\t", "3\t2000000000\t")
  )
  data = published.read_mmrec(tmp_path, "mine")
  assert data.item_ids.tolist() == ["0", "1", "2", "3", "2000000000"]
