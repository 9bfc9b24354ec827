import gzip
import json
import re

import numpy as np
import polars as pl
import pytest

from mmgrec_jax.data import tables
from mmgrec_jax.data.interactions import read_interactions
from mmgrec_jax.errors import UserError

ROWS = [("ann", "x,1", 3), ("bob", 'the "y"', -5), ("ann", " z 🎬 ", 7)]
CSV = 'user,item,when\nann,"x,1",3\nbob,"the ""y""",-5\nann, z 🎬 ,7\n'


def write(path, text, encoding="utf-8"):
  data = text.encode(encoding)
  path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
  return path


def lines(rows):
  names = ("user", "item", "when")
  return "".join(
    json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows
  )


@pytest.mark.parametrize(
  ("name", "text"),
  [
    ("a.csv", CSV),
    ("a.csv.gz", CSV),
    ("windows.csv", CSV.replace("\n", "\r\n")),
    ("marked.csv", "\ufeff" + CSV),
    ("wider.csv", "\n".join(f"0,{row}" for row in CSV.splitlines()) + "\n"),
    ("a.tsv", 'user\titem\twhen\nann\tx,1\t3\nbob\t"the ""y"""\t-5\n'
     "ann\t z 🎬 \t7\n"),
    ("semicolons.csv", 'user;item;when\nann;x,1;3\nbob;"the ""y""";-5\n'
     "ann; z 🎬 ;7\n"),
    ("a.inter", 'user:token\titem:token\twhen:float\nann\tx,1\t3\n'
     'bob\tthe "y"\t-5\nann\t z 🎬 \t7\n'),
    ("a.jsonl", lines(ROWS)),
    ("a.jsonl.gz", lines(ROWS)),
    ("marked.jsonl", "\ufeff" + lines(ROWS)),
    ("marked.jsonl.gz", "\ufeff" + lines(ROWS)),
  ],
)  # fmt: skip
def test_every_text_form_reads_the_same(tmp_path, name, text):
  check(read_interactions(write(tmp_path / name, text), "user", "item", "when"))


def test_parquet_reads_the_same(tmp_path):
  frame = pl.DataFrame(ROWS, schema=["user", "item", "when"], orient="row")
  frame.write_parquet(tmp_path / "a.parquet")
  check(read_interactions(tmp_path / "a.parquet", "user", "item", "when"))


def check(table):
  assert table.user_ids.tolist() == ["ann", "bob"]
  assert table.item_ids.tolist() == [item for _, item, _ in ROWS]
  assert table.user_E.tolist() == [0, 1, 0]
  assert table.item_E.tolist() == [0, 1, 2]
  assert table.time_E.tolist() == [3, -5, 7]


def test_columns_that_nobody_asks_for_may_have_one_name_or_none(tmp_path):
  text = ",,user,item,tag,tag\n0,0,ann,x,a,b\n0,1,bob,y,c,d\n"
  read = read_interactions(write(tmp_path / "a.csv", text), "user", "item")
  assert read.user_ids.tolist() == ["ann", "bob"]
  assert read.item_ids.tolist() == ["x", "y"]


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize(
  "text",
  [
    "user,item,w\nann,x,1\nbob,y,\n",
    'user,item,w\nann,x,""\nbob,y,1',
    "user,item,\nann,x,\nbob,y,\n",
    "user;item;a,b,c,d\nann;x;\nbob;y;1\n",
    'user,item,w\nann,x,\nbob,y,a "good" one\n',
  ],
)
def test_the_last_field_may_be_empty(tmp_path, text, packed):
  path = write(tmp_path / f"a.csv{packed}", text)
  read = read_interactions(path, "user", "item")
  assert read.user_ids.tolist() == ["ann", "bob"]
  assert read.item_ids.tolist() == ["x", "y"]


def test_the_name_of_a_file_is_no_pattern(tmp_path):
  for name, user in (("[ab] shop", "ann"), ("a shop", "someone else")):
    (tmp_path / name).mkdir()
    record = json.dumps({"user": user, "item": "x"}) + "\n"
    write(tmp_path / name / "clicks.jsonl", record)
  path = tmp_path / "[ab] shop" / "clicks.jsonl"
  assert read_interactions(path, "user", "item").user_ids.tolist() == ["ann"]


def test_ids_that_are_numbers_stay_as_they_are_written(tmp_path):
  table = write(tmp_path / "a.csv", "user,item\n007,1\n7,1.0\n")
  read = read_interactions(table, "user", "item")
  assert read.user_ids.tolist() == ["007", "7"]
  assert read.item_ids.tolist() == ["1", "1.0"]
  pl.DataFrame({"user": [7, 8], "item": ["x", "y"]}).write_parquet(
    tmp_path / "a.parquet"
  )
  read = read_interactions(tmp_path / "a.parquet", "user", "item")
  assert read.user_ids.tolist() == ["7", "8"]


def test_json_lines_may_mix_numbers_and_text_in_ids(tmp_path):
  text = '{"user": 1, "item": "x"}\n{"item": "y", "user": "ann", "more": []}\n'
  read = read_interactions(write(tmp_path / "a.jsonl", text), "user", "item")
  assert read.user_ids.tolist() == ["1", "ann"]


@pytest.mark.parametrize(
  ("user", "item"), [("true", "[ab] shop"), ("falsely", '{"id": "x"}')]
)
def test_json_lines_may_have_ids_that_look_like_json(tmp_path, user, item):
  record = json.dumps({"user": user, "item": item}) + "\n"
  read = read_interactions(write(tmp_path / "a.jsonl", record), "user", "item")
  assert read.user_ids.tolist() == [user] and read.item_ids.tolist() == [item]


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("value", [{"id": "u0"}, ["i15"], [], True, False])
def test_json_lines_with_ids_that_are_none_are_named(tmp_path, value, packed):
  rows = [{"user": "[ab] shop", "item": "x"}, {"user": "ann", "item": value}]
  path = tmp_path / f"a.jsonl{packed}"
  write(path, "\n\n".join(map(json.dumps, rows)))
  says = f"{path}: line 3, 'item' is {json.dumps(value)}; ids are text or whole"
  with pytest.raises(UserError, match=re.escape(says)):
    read_interactions(path, "user", "item")


@pytest.mark.parametrize(
  ("name", "text", "says"),
  [
    ("a.csv", "", "empty; the first line names"),
    ("a.csv", "\nann,x\n", "the first line is empty"),
    ("a.csv", "user,item\n", "no row below the header"),
    ("a.csv", "user,item\rann,x\r", "the first line is no header"),
    ("a.csv", "who,item\nann,x\n", "no column 'user'; it has 'who', 'item';"
     " name yours with --user_column"),
    ("a.csv", "user item\nann x\n", "no column 'user'; its first line is"),
    ("a.csv", "user,item\nann,x\n,y\n", "row 2 has no 'user'; fill it in"),
    ("a.csv", "user,item\nann,x\nbob,\n", "row 2 has no 'item'"),
    ("a.csv", "user,item\nann,x\nbob\n", "line 3 has 1 fields, the header 2;"
     " fill it in, or copy the file again"),
    ("a.csv", "user,item,w\nann,x,1\nbob,y", "line 3 has 2 fields, the h"),
    ("a.tsv", 'user\titem\tw\nann\t"x\ny"\t\nbob\ty', "line 4 has 2 fields"),
    ("a.inter", 'user:token\titem:token\tw:float\nann\t"x\t1\nbob\ty\n',
     "line 3 has 2 fields"),
    ("a.csv", "user,item\nann,x\nbob,y,z\n", "line 3 has 3 fields, the"),
    ("a.inter", "user:token\titem:token\nann\tx\nbob\ty\tz\n", "line 3 has 3"),
    ("a.csv", "user,title,item\nann,Heat,x\nbob,The Good, the Bad,y\n",
     "line 3 has 4 fields, the header 3; quote a field"),
    ("a.tsv", "user\tmore\titem\nann\t1\tx\nbob\t2\ty\tz\n", "line 3 has 4"),
    ("a.csv", 'user,item\nann,x\nbob,a 19" rack\neve,y\n',
     "line 3 has a quotation mark inside a field"),
    ("a.tsv", 'user\titem\nann\t"x\nbob\ty\neve\ty\n',
     "line 2 has a quotation mark .* not closed"),
    ("a.csv", 'user,item\n"a ""b"" c","x\ny"\n"bob" ann,y\n',
     "line 4 has a quotation mark"),
    ("a.csv", "item,user,item\nx,ann,y\n",
     "2 columns are called 'item'; rename all but one"),
    ("a.jsonl", '{"user": "ann"}\n', "no column 'item'; it has 'user'"),
    ("a.jsonl", '{"user": "ann", "item": "x"}\n{"user": "bob"}\n',
     "row 2 has no 'item'"),
    ("a.jsonl", '{"user": "ann", "item": "x"}\n{"user": \n', "line 2 is no"),
    ("a.jsonl", '\ufeff{"user": "a", "item": "x"}\n{"user"\n', "line 2 is no"),
    ("a.jsonl", "user,item\n", "the first line is no JSON object"),
    ("a.jsonl", "[1, 2]\n", "the first line is no JSON object"),
    ("a.xlsx", "user", "what it holds is not known by its name"),
    ("a.parquet", "user,item\n", "not a readable Parquet file"),
  ],
)  # fmt: skip
def test_each_fault_of_a_table_is_named(tmp_path, name, text, says):
  with pytest.raises(UserError, match=f"{name}: {says}"):
    read_interactions(write(tmp_path / name, text), "user", "item")


@pytest.mark.parametrize("first", [1, 2, 40])
def test_the_line_that_is_not_utf8_is_named(tmp_path, first):
  rows = ["user,item", *(f"ann,x{n}" for n in range(50))]
  rows[first - 1] += "é"
  path = write(tmp_path / "a.csv", "\n".join(rows), encoding="latin-1")
  with pytest.raises(UserError, match=f"a.csv: line {first} is not UTF-8"):
    read_interactions(path, "user", "item")


def test_files_cut_off_are_named(tmp_path, rng):
  whole = pl.DataFrame(
    {"user": rng.integers(0, 9, 999), "item": np.arange(999)}
  )
  whole.write_parquet(tmp_path / "a.parquet")
  whole.write_csv(tmp_path / "a.csv")
  packed = gzip.compress((tmp_path / "a.csv").read_bytes())
  (tmp_path / "a.csv.gz").write_bytes(packed[: len(packed) // 2])
  table = (tmp_path / "a.parquet").read_bytes()
  (tmp_path / "a.parquet").write_bytes(table[: len(table) // 2])
  (tmp_path / "b.csv.gz").write_text("user,item\nann,x\n")
  (tmp_path / "c.csv.gz").write_bytes(packed[:20] + bytes(40) + packed[60:])
  packed = gzip.compress(b"\xef\xbb\xbf" + whole.write_ndjson().encode())
  (tmp_path / "d.jsonl.gz").write_bytes(packed[: len(packed) // 2])
  for name in ("a.parquet", "a.csv.gz", "b.csv.gz", "c.csv.gz", "d.jsonl.gz"):
    with pytest.raises(UserError, match=f"{name}: (not|cannot)"):
      read_interactions(tmp_path / name, "user", "item")


def test_decimal_ids_are_refused(tmp_path):
  frame = pl.DataFrame({"user": [1.0, 2.5], "item": ["x", "y"]})
  frame.write_parquet(tmp_path / "a.parquet")
  with pytest.raises(UserError, match="'user' holds Float64; ids are"):
    read_interactions(tmp_path / "a.parquet", "user", "item")


def test_a_missing_table_is_named(tmp_path):
  with pytest.raises(UserError, match="gone.csv: not found"):
    read_interactions(tmp_path / "gone.csv", "user", "item")


@pytest.mark.parametrize("value", ["[" * 99999, "1" * 5000])
def test_json_that_python_cannot_hold_is_named(tmp_path, value):
  path = tmp_path / "a.jsonl"
  path.write_text(f'{{"user": {value}\n')
  with pytest.raises(UserError, match="a.jsonl: the first line is no JSON"):
    tables.read(path, ["user"])
  path.write_text(f'{{"user": "a"}}\n{{"user": {value}\n')
  with pytest.raises(UserError, match="a.jsonl: line 2 is no JSON object"):
    tables.read(path, ["user"])
