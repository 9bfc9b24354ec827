import os
import subprocess
import sys

import numpy as np
import pytest

from mmgrec_jax.data.ml100k import read_movielens


@pytest.mark.parametrize("taken", [True, False])
def test_what_cannot_be_had_is_one_sentence(taken, tmp_path):
  if taken:
    (tmp_path / "another").write_text("")
  done = subprocess.run(
    [sys.executable, "-m", "mmgrec_jax.data.ml100k", f"--out={tmp_path}"],
    env={"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull},
    capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 2
  says = "there is something already" if taken else "pip could not download"
  assert says in done.stderr
  assert "Traceback" not in done.stderr


def test_movielens_joins_titles_and_genres_by_id(tmp_path):
  rows = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
  pairs = [(u, i) for u in range(1, 5) for i in (10, 2, 30)]
  rows += [f"{u}\t{i}\t3\t{100 * u + i}" for u, i in pairs]
  (tmp_path / "ml-100k.inter").write_text("\n".join(rows) + "\n")
  (tmp_path / "ml-100k.item").write_text(
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
