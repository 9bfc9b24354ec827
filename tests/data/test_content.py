from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from mmgrec_jax.data import content
from mmgrec_jax.errors import UserError

ITEMS = np.array(["x", "y", "z"])
ROWS = np.array([[3, 3], [1, 1], [9, 9]], np.float16)


def save(folder, values=ROWS, ids=("z", "x", "unknown")):
  np.save(folder / "f.npy", values)
  np.save(folder / "ids.npy", np.array(ids))
  return folder / "f.npy", folder / "ids.npy", "item", ITEMS


def test_features_go_to_the_item_of_their_id_not_of_their_row(tmp_path, capsys):
  feature = content.read_feature(*save(tmp_path))
  assert feature.dtype == np.float32
  assert feature.tolist() == [[1, 1], [0, 0], [3, 3]]
  assert "1 of 3 rows are of no item here" in capsys.readouterr().out


def test_every_form_of_a_feature_gives_the_same(tmp_path):
  array, _, column, items = save(tmp_path)
  (tmp_path / "ids.txt").write_text("z\nx\nunknown\n")
  frame = pl.DataFrame({"a": ROWS[:, 0], "item": ["z", "x", "unknown"]})
  frame = frame.with_columns(b=pl.col("a"))
  frame.write_csv(tmp_path / "f.csv")
  frame.write_parquet(tmp_path / "f.parquet")
  lists = frame.select("item", v=pl.concat_list("a", "b"))
  lists.write_parquet(tmp_path / "lists.parquet")
  fixed = lists.with_columns(pl.col("v").list.to_array(2))
  fixed.write_parquet(tmp_path / "fixed.parquet")
  lists.write_ndjson(tmp_path / "lists.jsonl")
  expected = content.read_feature(*save(tmp_path))
  for path, ids in [
    (array, tmp_path / "ids.txt"),
    (tmp_path / "f.csv", None),
    (tmp_path / "f.parquet", None),
    (tmp_path / "lists.parquet", None),
    (tmp_path / "lists.jsonl", None),
    (tmp_path / "fixed.parquet", None),
  ]:
    found = content.read_feature(path, ids, column, items)
    assert np.array_equal(found, expected), path.name


def test_ids_are_lines_whatever_an_editor_adds_or_they_hold(tmp_path):
  save(tmp_path, ROWS[:2])
  strange = np.array(["x\u2028y", "b"])
  for text in ("\ufeffx\u2028y\nb\n", "x\u2028y\r\nb"):
    (tmp_path / "ids.txt").write_bytes(text.encode())
    found = content.read_feature(
      tmp_path / "f.npy", tmp_path / "ids.txt", "item", strange
    )
    assert np.array_equal(found, ROWS[:2])


def test_a_table_has_its_ids_itself(tmp_path):
  (tmp_path / "f.csv").write_text("item,a\nx,1\n")
  with pytest.raises(UserError, match=r"f.csv: a table .*leave --feature_ids"):
    content.read_feature(tmp_path / "f.csv", tmp_path / "ids", "item", ITEMS)


def test_an_array_without_rows_is_named(tmp_path):
  array, _, column, items = save(tmp_path, ROWS[:0])
  (tmp_path / "ids.txt").write_text("")
  with pytest.raises(UserError, match=r"f.npy: no row"):
    content.read_feature(array, tmp_path / "ids.txt", column, items)


def test_ids_that_are_numbers_match_as_text(tmp_path):
  path, ids, column, _ = save(tmp_path, ids=(30, 10, 99))
  feature = content.read_feature(path, ids, column, np.array(["10", "30"]))
  assert feature.tolist() == [[1, 1], [3, 3]]


@pytest.mark.parametrize(
  ("changes", "says"),
  [
    ({"values": np.where(ROWS == 3, np.nan, ROWS)},
     r"f\.npy: row 1 \(item 'z'\), number 1 is nan; replace"),
    ({"values": np.where(ROWS == 1, -np.inf, ROWS)},
     r"row 2 \(item 'x'\), number 1 is -inf"),
    ({"values": ROWS[:2]}, r"f\.npy: 2 rows, but 3 ids in .*ids\.npy"),
    ({"values": ROWS[:, 0]}, r"f\.npy: float16 of shape \(3,\)"),
    ({"values": ROWS.astype(str)}, r"f\.npy: <U32 of shape"),
    ({"values": ROWS + 1j}, r"f\.npy: complex64 of shape"),
    ({"ids": ("z", "x", "z")}, "rows 1 and 3 are both of item 'z'; keep one"),
    ({"ids": ("a", "b", "c")}, "none of its 3 ids, such as 'a', is an item of"),
    ({"ids": (1.0, 2.0, 3.0)}, r"ids\.npy: float64 of shape \(3,\); ids are"),
  ],
)  # fmt: skip
def test_each_fault_of_a_feature_is_named(tmp_path, changes, says):
  with pytest.raises(UserError, match=says):
    content.read_feature(*save(tmp_path, **changes))


def test_an_array_without_ids_is_refused(tmp_path):
  path, _, column, items = save(tmp_path)
  with pytest.raises(UserError, match="give the ids of its rows"):
    content.read_feature(path, None, column, items)


@pytest.mark.parametrize(
  ("text", "says"),
  [
    ("item,a\nx,1\ny,2,3\n", "line 3 has 3 fields"),
    ("item,a\nx,1\ny,wide\n", "row 2, 'a' is 'wide'; give every row a number"),
    ("item,a,b\nx,1,2\ny,3,\n", "row 2, 'b' is ''"),
    ("item,a,b\nx,1,2\ny,3\n", "line 3 has 2 fields, the header 3"),
    ("item\nx\n", "no column beside the ids"),
    (",item,a\n0,x,1\n", "column 1 has no name, such as the row numbers of"),
    ("id,a\nx,1\n", "no column 'item'; it has 'id', 'a'; name yours with"),
    ("item,a\n", "no row below the header"),
  ],
)
def test_each_fault_of_a_table_of_features_is_named(tmp_path, text, says):
  (tmp_path / "f.csv").write_text(text)
  with pytest.raises(UserError, match=rf"f\.csv: {says}"):
    content.read_feature(tmp_path / "f.csv", None, "item", ITEMS)


def test_lists_of_another_width_are_named(tmp_path):
  frame = pl.DataFrame({"item": ["x", "y"], "v": [[1.0, 2.0], [3.0]]})
  frame.write_parquet(tmp_path / "f.parquet")
  with pytest.raises(UserError, match="row 2 has 1 numbers in 'v', row 1"):
    content.read_feature(tmp_path / "f.parquet", None, "item", ITEMS)


def test_a_second_column_of_lists_is_named(tmp_path):
  frame = pl.DataFrame({"item": ["x"], "v": [[1.0]], "w": [[2.0]]})
  frame.write_parquet(tmp_path / "f.parquet")
  says = r"f\.parquet: 'v' holds List\(Float64\); give every row a number"
  with pytest.raises(UserError, match=says):
    content.read_feature(tmp_path / "f.parquet", None, "item", ITEMS)


@pytest.mark.parametrize("second", ['["a"]', "[[1]]", '"a"'])
def test_lines_that_hold_no_list_of_numbers_are_named(tmp_path, second):
  lines = ['{"item": "x", "v": [1]}', f'{{"item": "y", "v": {second}}}']
  (tmp_path / "f.jsonl").write_text("\n".join(lines))
  with pytest.raises(UserError, match=r"f\.jsonl: 'v' does not hold a list"):
    content.read_feature(tmp_path / "f.jsonl", None, "item", ITEMS)


@pytest.mark.parametrize("v", [[[1.0]], ["a"], {"a": 1.0}])
def test_a_column_of_anything_but_lists_of_numbers_is_named(tmp_path, v):
  frame = pl.DataFrame({"item": ["x", "y"], "v": [v, v]})
  frame.write_parquet(tmp_path / "f.parquet")
  with pytest.raises(UserError, match=r"f\.parquet: 'v' holds (List|Struct)"):
    content.read_feature(tmp_path / "f.parquet", None, "item", ITEMS)


def test_texts_are_joined_by_id_and_gaps_are_empty(tmp_path):
  (tmp_path / "i.csv").write_text('item,title\nz," Zoo, ""1"" 🦓"\nx,\n')
  texts = content.read_texts(tmp_path / "i.csv", "item", ["title"], ITEMS)
  assert texts == {"title": ["", "", 'Zoo, "1" 🦓']}


def test_items_without_text_get_zeros_and_others_do_not_change(tmp_path):
  texts = ["a red car", "", "a red cat", "blue"]
  feature = content.encode_texts(tmp_path, texts, 2)
  assert feature.shape == (4, 2)
  assert not feature[1].any() and feature[[0, 2, 3]].any(axis=1).all()
  whole = content.encode_texts(tmp_path, [t for t in texts if t], 2)
  assert np.array_equal(feature[[0, 2, 3]], whole)


def test_lists_are_the_same_text_in_parquet_and_json_lines(tmp_path):
  frame = pl.DataFrame(
    {
      "item": ["x", "y"],
      "tags": [["a", 'b "é"', None], None],
      "by": [{"name": "ann", "of": [1, 2]}, {"name": None, "of": []}],
      "pair": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int64, 2)),
    }
  )
  frame.write_parquet(tmp_path / "i.parquet")
  frame.write_ndjson(tmp_path / "i.jsonl")
  names = ["tags", "by", "pair"]
  of_parquet, of_lines = (
    content.read_texts(tmp_path / name, "item", names, ITEMS)
    for name in ("i.parquet", "i.jsonl")
  )
  assert of_parquet["tags"] == ['["a", "b \\"é\\"", null]', "", ""]
  assert of_parquet == of_lines


def test_a_column_that_is_no_text_is_named(tmp_path):
  frame = pl.DataFrame({"item": ["x"], "length": [timedelta(hours=2)]})
  frame.write_parquet(tmp_path / "i.parquet")
  says = r"i\.parquet: 'length' holds Duration.*; write that column as text"
  with pytest.raises(UserError, match=says):
    content.read_texts(tmp_path / "i.parquet", "item", ["length"], ITEMS)


def test_one_text_is_too_few(tmp_path):
  with pytest.raises(UserError, match=r"i\.csv: only 1 of the 3 items"):
    content.encode_texts(tmp_path / "i.csv", ["", "a", ""], 8)
