import numpy as np
import pytest

from mmgrec_jax.data import readers
from mmgrec_jax.data.ml100k import read_movielens
from mmgrec_jax.errors import UserError


def write(path, text):
  path.write_text(text, encoding="utf-8")
  return path


def test_atomic_file_keeps_types_and_quotes(tmp_path):
  path = write(
    tmp_path / "a.item",
    'id:token\ttitle:token_seq\tscore:float\n7\tHe said "no"\t1.5\n08\té\t2\n',
  )
  columns = readers.read_atomic(path)
  assert columns == {
    "id": ["7", "08"],
    "title": ['He said "no"', "é"],
    "score": [1.5, 2.0],
  }


@pytest.mark.parametrize(
  ("text", "says"),
  [
    ("", "empty"),
    ("user_id\n3\n", "'user_id' has type ''"),
    ("a:token\tb:float\n1\n", "line 2 has 1 fields, the header 2"),
    ("a:token\tb:float\n1\tx\n", "line 2, field 'b': 'x' is no number"),
  ],
)
def test_atomic_faults_are_named(tmp_path, text, says):
  with pytest.raises(UserError, match=says):
    readers.read_atomic(write(tmp_path / "a.inter", text))


def test_missing_atomic_file_is_named(tmp_path):
  with pytest.raises(UserError, match="gone.inter: not found"):
    readers.read_atomic(tmp_path / "gone.inter")


def test_duplicates_keep_the_first_and_are_counted():
  user, item = np.array([1, 0, 1, 1]), np.array([2, 2, 2, 0])
  keep, merged = readers.merge_duplicates(user, item)
  assert keep.tolist() == [0, 1, 3]
  assert merged == 1


def test_movielens_joins_titles_and_genres_by_id(tmp_path, rng):
  rows = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
  pairs = [(u, i) for u in range(1, 5) for i in (10, 2, 30)]
  rows += [f"{u}\t{i}\t3\t{100 * u + i}" for u, i in pairs]
  write(tmp_path / "ml-100k.inter", "\n".join(rows) + "\n")
  write(
    tmp_path / "ml-100k.item",
    "item_id:token\tmovie_title:token_seq\trelease_year:token\t"
    "class:token_seq\n30\tHeat\t1995\tAction Crime\n2\tTed\t\tComedy\n"
    "10\tBig City\t1963\tDrama\n",
  )
  data = read_movielens(tmp_path)
  assert data.item_ids.tolist() == ["2", "10", "30"]
  assert data.titles is not None
  assert data.titles.tolist() == ["Ted", "Big City (1963)", "Heat (1995)"]
  assert data.features["genres"].sum(axis=1).tolist() == [1, 1, 2]
  assert data.timestamp_E is not None
  stamp = 100 * (data.user_E + 1) + data.item_ids.astype(int)[data.item_E]
  assert np.array_equal(data.timestamp_E, stamp)
