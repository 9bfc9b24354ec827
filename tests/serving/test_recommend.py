"""The command, in this process."""

import csv
import io
import json
import os
import threading

import jax.numpy as jnp
import pytest

from mmgrec_jax import recommend
from mmgrec_jax.errors import UserError
from mmgrec_jax.evaluation import ranking
from mmgrec_jax.serving import systems
from mmgrec_jax.stages import rankers

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture
def call(mmgrec_run, capsys):
  def run(*flags):
    code = recommend.main([f"--workdir={mmgrec_run}", *flags])
    return code, capsys.readouterr()

  return run


def test_three_formats_say_the_same(call, small_data):
  users = ",".join(map(str, small_data.user_ids[:2]))
  ask = (f"--users={users}", "--k=3", "--seen=train")
  _, as_json = call(*ask, "--format=json")
  lines = [json.loads(line) for line in as_json.out.splitlines()]
  assert [line["user"] for line in lines] == small_data.user_ids[:2].tolist()
  items = [item for line in lines for item in line["items"]]
  assert len(items) == 6

  _, as_csv = call(*ask, "--format=csv")
  rows = list(csv.DictReader(io.StringIO(as_csv.out)))
  code, table = call(*ask)
  assert code == 0
  for row, item in zip(rows, items, strict=True):
    assert row["item"] == str(item["item"]) and row["title"] == item["title"]
    assert float(row["score"]) == pytest.approx(item["score"], rel=1e-5)
    assert row["rec_id"] == "-".join(map(str, item["rec_id"]))
    assert f"item {item['item']}  score" in table.out
  assert [row["rank"] for row in rows] == ["1", "2", "3"] * 2


def test_files_of_ids_and_someone_new(call, small_data, tmp_path):
  users, only = tmp_path / "users.txt", tmp_path / "only.txt"
  users.write_text("".join(f"{u}\n" for u in small_data.user_ids))
  only.write_text("\n".join(map(str, small_data.item_ids[:9])))
  code, out = call(
    f"--users_file={users}", f"--only_file={only}", "--k=2", "--format=json"
  )
  lines = [json.loads(line) for line in out.out.splitlines()]
  assert code == 0 and len(lines) == small_data.n_users
  allowed = set(small_data.item_ids[:9].tolist())
  assert {i["item"] for line in lines for i in line["items"]} <= allowed
  code, out = call(f"--history={small_data.item_ids[0]}", "--k=1")
  assert code == 0 and out.out.startswith("someone new\n   1  ")


def test_users_may_come_through_a_pipe_with_a_mark_before_them(
  call, small_data, tmp_path
):
  pipe = tmp_path / "pipe"
  os.mkfifo(pipe)
  text = "\ufeff" + "".join(f"{u}\n" for u in small_data.user_ids[:2])
  writer = threading.Thread(target=pipe.write_text, args=(text, "utf-8"))
  writer.start()
  code, out = call(f"--users_file={pipe}", "--k=2", "--format=csv")
  writer.join()
  assert code == 0 and len(out.out.splitlines()) == 1 + 2 * 2


@pytest.mark.parametrize(
  ("flags", "says"),
  [
    (["--users=a\nb"], "separate ids by commas, or give --users_file"),
    (["--users=nobody"], "user 'nobody' is not in"),
    (["--users_file=gone.txt"], "gone.txt: cannot be read"),
    (["--history="], "history 1 of 1 is empty"),
    (["--history=item0", "--k=99"], "k is 99, but there are 30 items"),
    (["--history=item0", "--exclude=x"], "item 'x' is not in"),
  ],
)  # fmt: skip
def test_wrong_input_is_one_sentence_and_nothing_is_printed(call, flags, says):
  code, out = call(*flags)
  assert code == 2 and says in out.err and out.out == ""


def test_an_unknown_user_far_down_a_file_is_found_first(
  call, small_data, tmp_path
):
  file = tmp_path / "users.txt"
  file.write_text(f"{small_data.user_ids[0]}\nnobody\n")
  code, out = call(f"--users_file={file}")
  assert code == 2 and "'nobody'" in out.err and out.out == ""
  file.write_text(f"{small_data.user_ids[0]}\n\n")
  assert "users.txt, line 2: empty" in call(f"--users_file={file}")[1].err
  file.write_bytes(b"\xff\xfe")
  assert "not UTF-8" in call(f"--users_file={file}")[1].err


def test_fewer_users_at_a_time_give_the_same(call, small_data, monkeypatch):
  users = f"--users={','.join(map(str, small_data.user_ids[:9]))}"

  def lists(*flags):
    lines = call(users, "--format=json", *flags)[1].out.splitlines()
    of = [json.loads(line)["items"] for line in lines]
    return [[item["item"] for item in items] for items in of]

  together = lists()
  assert len(together) == 9
  at_a_time, make = [], rankers.users_at_a_time

  def noted(config, width):
    at_a_time.append(make(config, width))
    return at_a_time[-1]

  monkeypatch.setattr(systems, "users_at_a_time", noted)
  assert lists("--batch_size=4") == together
  assert set(at_a_time) == {4}


@pytest.mark.parametrize(
  "flags",
  [
    [],
    ["--users=1", "--history=2"],
    ["--users=1", "--users_file=f"],
    ["--users=1", "--batch_size=0"],
  ],
)
def test_for_whom_is_asked_once(call, flags, capsys):
  with pytest.raises(SystemExit) as stopped:
    call(*flags)
  assert stopped.value.code == 2


def test_ids_may_hold_commas_quotes_spaces_and_emoji():
  ids = ["a,b", 'say "hi"', " x ", "🎬"]
  text = io.StringIO()
  csv.writer(text).writerow(ids)
  given = recommend.parse(["--workdir=w", f"--users={text.getvalue().strip()}"])
  assert list(recommend.ids_of(given, "users") or ()) == [
    "a,b", 'say "hi"', "x ", "🎬",
  ]  # fmt: skip


def test_a_lack_of_memory_says_what_helps(call, small_data, monkeypatch):
  def too_much(*_):
    return jnp.zeros(1 << 46) + 1

  monkeypatch.setattr(ranking.Ranker, "__call__", too_much)
  code, out = call(f"--users={small_data.user_ids[0]}")
  assert code == 2
  assert "recommend: a device has not enough memory" in out.err
  assert "--batch_size; the host may have more: JAX_PLATFORMS=cpu" in out.err


def test_a_workdir_that_is_none_is_named(tmp_path):
  given = recommend.parse([f"--workdir={tmp_path}", "--users=1"])
  with pytest.raises(UserError, match="no config.json"):
    recommend.recommend(given)
