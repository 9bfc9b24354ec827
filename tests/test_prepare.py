import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmgrec_jax import prepare
from mmgrec_jax.data import published_counts
from mmgrec_jax.data.dataset import TEST
from mmgrec_jax.data.folder import load_dataset

ITEMS = 'item,title,plot\n"i,1",Heat,cops and robbers\n"i ""2""",Ted,a bear\n'
ITEMS += "i 🎬,Alien,\nnobody's,Solo,space\n"


def clicks():
  """Five users and five items; user 0 has 'i,1' twice; the last is rare."""
  items = ['"i,1"', '"i ""2"""', "i 🎬", "i4", "i5"]
  rows = ["who,item,when,stars"]
  for user in range(4):
    for n, item in enumerate(items[:4]):
      rows.append(f"user {user},{item},{100 * n - 150},{n + 2}")
  rows += ['user 0,"i,1",999,5', "rare,i5,1,5", "rare,i4,2,5"]
  return "\n".join(rows) + "\n"


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
  """Runs the command in a folder that holds clicks.csv and items.csv."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / "clicks.csv").write_text(clicks(), encoding="utf-8")
  (tmp_path / "items.csv").write_text(ITEMS, encoding="utf-8")

  def call(*flags, interactions="clicks.csv", user="who"):
    argv = [f"--interactions={interactions}", "--out=mine", *flags]
    if user:
      argv.append(f"--user_column={user}")
    code = prepare.main(argv)
    return code, *capsys.readouterr()

  return call


def test_a_persons_own_files_become_a_data_set(run):
  code, out, _ = run("--items=items.csv", "--text=title,plot", "--name=films")
  assert code == 0
  data = load_dataset("mine")
  assert data.name == "films"
  assert data.user_ids.tolist() == [*(f"user {u}" for u in range(4)), "rare"]
  assert data.item_ids.tolist() == ["i,1", 'i "2"', "i 🎬", "i4", "i5"]
  assert data.titles is not None
  assert data.titles.tolist() == ["Heat", "Ted", "Alien", "i4", "i5"]
  assert data.features["text"].any(axis=1).tolist() == [True] * 3 + [False] * 2
  assert "clicks.csv: 19 rows, 1 duplicates merged" in out
  assert "text: 2 of 5 items have none (zeros)" in out
  assert data.fingerprint in out
  table = out.split("\n\n")[1].splitlines()
  assert table[0].split() == [
    "users", "items", "interactions", "density", "text"
  ]  # fmt: skip
  assert table[1].split() == ["films", "5", "5", "18", "72.0000%", "2"]
  assert data.timestamp_E is None


def test_the_same_command_makes_the_same_data_set_and_a_seed_another(run):
  prints = []
  for seed, out in [(0, "a"), (0, "b"), (1, "c")]:
    assert run(f"--seed={seed}", f"--out={out}")[0] == 0
    prints.append(load_dataset(out).fingerprint)
  assert prints[0] == prints[1] != prints[2]


def test_ratings_and_k_core_leave_out_what_they_say(run):
  code, out, _ = run("--rating_column=stars", "--min_rating=3", "--k_core=3")
  assert code == 0
  assert "4 rated below the minimum, 0 duplicates merged, 3 outside" in out
  data = load_dataset("mine")
  assert data.n_users == 4 and data.item_ids.tolist() == ['i "2"', "i 🎬", "i4"]


def test_times_are_kept_and_decide_who_is_last(run):
  assert run("--time_column=when", "--split=leave_last")[0] == 0
  data = load_dataset("mine")
  assert data.timestamp_E is not None and data.timestamp_E.min() == -150
  user, item = data.edges(TEST)
  assert data.item_ids[item].tolist() == ["i4"] * 5
  assert sorted(user) == list(range(5))


def test_by_time_the_newest_are_the_test(run):
  assert run("--time_column=when", "--split=time")[0] == 0
  data = load_dataset("mine")
  assert data.timestamp_E is not None
  newest = data.timestamp_E[data.split_E == TEST]
  assert len(newest) == 2
  assert newest.min() >= data.timestamp_E[data.split_E != TEST].max()


def test_features_of_every_kind_side_by_side(run, tmp_path):
  np.save("v.npy", np.array([[1.0, 2], [3, 4], [5, 6]]))
  (tmp_path / "v.txt").write_text("i4\ni5\ngone\n")
  (tmp_path / "a.csv").write_text("item,x\ni4,7\n")
  code, out, _ = run(
    "--items=items.csv", "--text=title", "--features=visual=v.npy",
    "--feature_ids=visual=v.txt", "--features=acoustic=a.csv",
  )  # fmt: skip
  assert code == 0
  features = load_dataset("mine").features
  assert features.keys() == {"text", "visual", "acoustic"}
  assert features["visual"].tolist() == [[0, 0]] * 3 + [[1, 2], [3, 4]]
  assert features["acoustic"].ravel().tolist() == [0, 0, 0, 7, 0]
  assert "acoustic: 4 of 5 items have none" in out


def recbole(folder):
  folder.mkdir()
  pairs = [(u, i) for u in "abcd" for i in "wxyz"]
  rows = [f"{u}\t{i}\t{n}" for n, (u, i) in enumerate(pairs)]
  head = "user_id:token\titem_id:token\ttimestamp:float"
  (folder / "s.inter").write_text("\n".join([head, *rows]) + "\n")
  head = "item_id:token\tyear:token\tname:token_seq"
  rows = [f"{i}\t1999\tfilm {i}" for i in "zyxw"]
  (folder / "s.item").write_text("\n".join([head, *rows]) + "\n")


def test_items_that_nobody_has_touched_are_kept_where_asked(run, tmp_path):
  flags = ["--items=items.csv", "--text=title,plot"]
  _, out, _ = run(*flags, "--out=without")
  assert "items.csv: 1 items have no interaction and are left out" in out
  np.save(tmp_path / "v.npy", np.eye(2))
  (tmp_path / "v.txt").write_text("nobody's\ni4\n")
  vectors = ["--features=v=v.npy", "--feature_ids=v=v.txt"]
  code, out, _ = run(*flags, *vectors, "--all_items")
  assert code == 0
  assert "items.csv: 1 items without an interaction, too" in out
  data, without = load_dataset("mine"), load_dataset("without")
  assert data.item_ids.tolist() == [*without.item_ids, "nobody's"]
  assert data.titles.tolist() == [*without.titles, "Solo"]
  assert data.features["text"][-1].any()
  assert data.features["v"].tolist() == [[0, 0]] * 3 + [[0, 1], [0, 0], [1, 0]]
  np.testing.assert_array_equal(data.item_E, without.item_E)
  assert data.popularity().tolist() == [*without.popularity(), 0]
  _, _, error = run("--all_items", "--out=no")
  assert "--all_items has no effect without --items" in error


def test_recboles_folder_needs_no_flag(run, tmp_path):
  recbole(tmp_path / "s")
  code, out, _ = run("--split=leave_last", interactions="s", user="")
  assert code == 0 and "in the form of recbole" in out
  data = load_dataset("mine")
  assert data.titles is not None
  assert data.titles.tolist() == [f"film {i}" for i in "wxyz"]
  assert data.features["text"].any(axis=1).all()
  assert data.item_ids[data.edges(TEST)[1]].tolist() == ["z"] * 4


def mmrec(folder):
  folder.mkdir()
  rows = [f"{u}\t{i}\t{(u + i) % 3}" for u in range(4) for i in range(5)]
  text = "\n".join(["userID\titemID\tx_label", *rows]) + "\n"
  (folder / "baby.inter").write_text(text)
  np.save(folder / "image_feat.npy", np.eye(5))


def test_a_published_split_is_kept(run, tmp_path):
  mmrec(tmp_path / "baby")
  code, out, _ = run(interactions="baby", user="")
  assert code == 0 and "in the form of mmrec" in out
  data = load_dataset("mine")
  user, item = data.user_E, data.item_E
  assert np.array_equal(data.split_E, (user + item) % 3)
  assert run("--format=mmrec", "--out=b", interactions="baby", user="")[0] == 0
  assert load_dataset("b").fingerprint == data.fingerprint


@pytest.mark.parametrize(
  ("flags", "says"),
  [
    (["--k_core=9"], "clicks.csv: no interaction is left; lower --k_core"),
    (["--time_column=title"], "clicks.csv: no column 'title'; it has 'who',"),
    (["--time_column=item"], "row 1, 'item' is 'i,1'; give every row a number"),
    (["--min_rating=3"], "--rating_column and --min_rating go together"),
    (["--split=time"], "--split=time needs the time of each interaction"),
    (["--split=leave_last", "--time_column=when", "--seed=1"],
     "--seed has no effect on --split=leave_last"),
    (["--items=items.csv"], "--items has no effect without --text or --image"),
    (["--text=title"], "--text has no effect without --items"),
    (["--items=gone.csv", "--text=title"], "gone.csv: not found"),
    (["--items=items.csv", "--text=name"],
     "items.csv: no column 'name'; it has 'item', 'title', 'plot'; name yours"),
    (["--text_width=9"], "--text_width has no effect without --text"),
    (["--features=visual=gone.npy"], "gone.npy: says nothing of which item"),
    (["--features=a=gone.npy", "--feature_ids=a=b.txt"], "gone.npy: not found"),
    (["--feature_ids=v=b.txt"], "--feature_ids=v=…: there is no --features"),
    (["--format=mmrec"], "--format=mmrec is for a folder"),
  ],
)  # fmt: skip
def test_each_fault_is_one_sentence_and_nothing_is_written(run, flags, says):
  code, _, err = run(*flags)
  assert code == 2
  assert err.startswith("error: ") and err.count("\n") == 1
  assert says in err
  left_nothing()


def left_nothing():
  assert {p.name for p in Path().iterdir()} <= {
    "clicks.csv",
    "items.csv",
    "baby",
  }


@pytest.mark.parametrize(
  ("text", "says"),
  [
    ("who,item\nann,x\nann,y\n", "only one user, 'ann', is left"),
    ("who,item\nann,x\nbob,x\n", "only one item, 'x', is left"),
    ("who,item\nann,x\nann,x\n", "only one user"),
  ],
)
def test_one_user_or_one_item_is_too_few(run, tmp_path, text, says):
  (tmp_path / "clicks.csv").write_text(text)
  code, _, err = run()
  assert code == 2 and says in err
  left_nothing()


def test_flags_that_a_stored_split_rules_out_are_refused(run, tmp_path):
  mmrec(tmp_path / "baby")
  for flag in ("--k_core=2", "--split=time", "--seed=3", "--items=items.csv"):
    code, _, err = run(flag, interactions="baby", user="")
    assert code == 2 and f"{flag.split('=')[0]}: baby fixes that itself" in err
  left_nothing()


def test_a_reason_of_several_lines_is_still_one_line(run, tmp_path):
  (tmp_path / "published").mkdir()
  (tmp_path / "published" / "trnMat.pkl").write_bytes(b"P1\n.")
  code, _, err = run(interactions="published", user="")
  assert code == 2 and err.count("\n") == 1
  assert "trnMat.pkl: refused" in err


def test_counts_are_compared_with_what_was_published(run, tmp_path):
  mmrec(tmp_path / "Baby")
  _, out, _ = run(interactions="Baby", user="")
  data = load_dataset("mine")
  assert f"{data.n_users:,} users here, 19,445 published" in out
  for folder in ("baby", "tiktok", "mine"):
    known = published_counts.COUNTS.get(("mmrec", folder))
    said = published_counts.compare("mmrec", folder, data)
    assert (said is None) == (known is None)


def test_counts_that_agree_are_told_so(small_data, monkeypatch):
  train = int((small_data.split_E == 0).sum())
  same = published_counts.Counts(40, 30, train, of_training=True)
  monkeypatch.setitem(published_counts.COUNTS, ("mmssl", "tiktok"), same)
  said = published_counts.compare("mmssl", "TikTok", small_data)
  assert said == "TikTok: users, items and interactions as published"
  other = same._replace(interactions=train + 1)
  monkeypatch.setitem(published_counts.COUNTS, ("mmssl", "tiktok"), other)
  said = published_counts.compare("mmssl", "TikTok", small_data)
  assert said == (
    f"TikTok: {train:,} training interactions here, {train + 1:,} published"
  )


def test_jax_is_not_even_started():
  code = "import mmgrec_jax.prepare, sys; print('jax' in sys.modules)"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True)
  assert done.stdout == b"False\n"


def test_what_is_there_is_not_overwritten(run):
  assert run()[0] == 0
  before = load_dataset("mine").fingerprint
  code, _, err = run("--seed=5")
  assert code == 2 and "mine: there is something already" in err
  assert load_dataset("mine").fingerprint == before


def test_as_a_process_it_exits_with_2_and_no_traceback(run, tmp_path):
  command = [sys.executable, "-m", "mmgrec_jax.prepare", "--out=mine"]
  for flags, says in [
    (["--interactions=clicks.csv"], "no column 'user'"),
    (["--interactions=clicks.csv", "--k_cor=3"], "unrecognized arguments"),
    (["--interactions=clicks.csv", "--features=v.npy"], "is not NAME=FILE"),
    (["--interactions=clicks.csv", "--k_core=0"], "no whole number from 1 on"),
    (["--interactions=clicks.csv", "--text=,"], "names no column"),
    (["--interactions=clicks.csv", "--text=a,b,a"], "--text: names 'a' more"),
  ]:
    done = subprocess.run([*command, *flags], capture_output=True, text=True)
    assert done.returncode == 2 and says in done.stderr
    assert "Traceback" not in done.stderr
  left_nothing()
