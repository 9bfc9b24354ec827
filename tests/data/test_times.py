from datetime import timedelta
from decimal import Decimal

import polars as pl
import pytest

from mmgrec_jax.data import tables
from mmgrec_jax.data.interactions import read_interactions
from mmgrec_jax.errors import UserError


@pytest.mark.parametrize(
  ("cells", "expected"),
  [
    (["3", " 4", "-5"], [3, 4, -5]),
    (["1.5", "2", "1e3"], [1.5, 2, 1000]),
    (["1970-01-02", "1969-12-31"], [86_400_000_000, -86_400_000_000]),
    (["1970-01-01 00:00:01", "1970-01-01 00:00:00"], [1_000_000, 0]),
    (["1970-01-01T00:00:01Z", "1970-01-01T00:01:00Z"], [1_000_000, 60_000_000]),
  ],
)
def test_times_are_numbers_or_dates(tmp_path, cells, expected):
  column = pl.Series("when", cells)
  found = tables.numbers(tmp_path, column, dates=True)
  assert found.tolist() == expected


def test_a_parquet_date_is_a_time(tmp_path):
  column = pl.Series("when", ["1970-01-02 00:00:00"]).str.to_datetime()
  found = tables.numbers(tmp_path, column, dates=True)
  assert found.tolist() == [86_400_000_000]


@pytest.mark.parametrize(
  ("cells", "expected"),
  [
    (["1700729496", "-3"], [1700729496, -3]),
    (["1.50", "2.25"], [1.5, 2.25]),
    (["1700729496123456789", "1"], [1700729496123456789, 1]),
  ],
)
def test_decimals_are_numbers(tmp_path, cells, expected):
  path = tmp_path / "a.parquet"
  when = [Decimal(cell) for cell in cells]
  frame = pl.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "when": when})
  frame.write_parquet(path)
  read = read_interactions(path, "user", "item", "when", "when")
  assert read.time_E is not None and read.rating_E is not None
  assert read.time_E.tolist() == read.rating_E.tolist() == expected
  assert read.time_E.dtype.kind in "if" and read.rating_E.dtype.kind in "if"


@pytest.mark.parametrize(
  ("when", "says"),
  [
    (timedelta(1), "'when' holds Duration.*; give every row a number or an"),
    ([1, 2], r"'when' holds List\(Int64\); give every row a number or an"),
    (b"\xff", "'when' holds Binary; give every row a number or an"),
    ({"day": 1}, "row 1, 'when' is {'day': 1}; give every row a number or an"),
    (True, "row 1, 'when' is True; give every row a number or an"),
  ],
)
def test_columns_that_hold_no_time_are_named(tmp_path, when, says):
  path = tmp_path / "a.parquet"
  pl.DataFrame({"user": ["a"], "item": ["x"], "when": [when]}).write_parquet(
    path
  )
  with pytest.raises(UserError, match=f"a.parquet: {says}"):
    read_interactions(path, "user", "item", "when")


@pytest.mark.parametrize(
  ("cells", "says"),
  [
    (["3", "soon", "5"], "row 2, 'when' is 'soon'; give every row a number or"),
    (["3", "4", ""], "row 3, 'when' is ''"),
    (["3", None], "row 2, 'when' is None"),
    (["3.5", "nan"], "row 2, 'when' is 'nan'"),
    (["inf", "1"], "row 1, 'when' is 'inf'"),
    (["2024-05-31", "3", "2024-06-01"], "row 2, 'when' is '3'"),
    ([1.0, float("nan")], "row 2, 'when' is nan"),
    (["03/01/2024", "31/01/2024"], "row 1, .* give every row .* an ISO date"),
    (["01-02-2024 10:00", "01-03-2024 10:00"], "row 1, 'when' is '01-02-2024"),
    (["2024-05-31", "01-06-2024"], "row 2, 'when' is '01-06-2024'"),
    (["2024/05/31", "2024/06/01"], "row 1, 'when' is '2024/05/31'"),
  ],
)
def test_what_is_no_time_is_named(tmp_path, cells, says):
  with pytest.raises(UserError, match=f"a.csv: {says}"):
    tables.numbers(
      tmp_path / "a.csv", pl.Series("when", cells, strict=False), dates=True
    )
