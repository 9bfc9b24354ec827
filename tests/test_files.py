import json

import pytest

from mmgrec_jax import files, hosts
from mmgrec_jax.errors import UserError
from mmgrec_jax.files import changed_file, read_json, read_json_lines, sha256

FORM = {
  "name": str,
  "split": {str: {str: float}, "popularity": {"recall": float}},
  "usage": [float],
  "seed": (int,),
}
GOOD = {
  "name": "a",
  "split": {"popularity": {"recall": 1}, "mf": {"ndcg": 0.5}},
  "usage": [0.5, 1],
  "more": None,
}


def test_json_of_the_form_is_read(tmp_path):
  path = tmp_path / "a.json"
  for value in (GOOD, {**GOOD, "seed": 3}, {**GOOD, "usage": []}):
    path.write_text(json.dumps(value))
    assert read_json(path, "mend it", FORM) == value


@pytest.mark.parametrize(
  ("change", "says"),
  [
    ({"name": 3}, "'name' is missing or wrong"),
    ({"name": None}, "'name'"),
    ({"seed": True}, "'seed'"),
    ({"split": []}, "'split'"),
    ({"split": {}}, "'split.popularity'"),
    ({"split": {"popularity": {}}}, "'split.popularity.recall'"),
    ({"split": {**GOOD["split"], "mf": {"x": "y"}}}, "'split.mf.x'"),
    ({"usage": {}}, "'usage'"),
    ({"usage": [1, True]}, "'usage.1'"),
    ({"usage": [float("nan")]}, "'usage.0'"),
    ({"usage": [10**400]}, "'usage.0'"),
  ],
)
def test_json_of_another_form_is_named(tmp_path, change, says):
  path = tmp_path / "a.json"
  path.write_text(json.dumps({**GOOD, **change}))
  with pytest.raises(UserError, match=f"a.json: damaged .*{says}.*; mend it"):
    read_json(path, "mend it", FORM)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 99999, "\xff"])
def test_what_is_no_json_object_is_refused(tmp_path, text):
  path = tmp_path / "a.json"
  with pytest.raises(UserError, match="a.json: not found; mend it"):
    read_json(path, "mend it")
  path.write_bytes(text.encode("latin1"))
  with pytest.raises(UserError, match="a.json: damaged .*; mend it"):
    read_json(path, "mend it")


def test_each_line_is_of_the_form(tmp_path):
  path = tmp_path / "a.jsonl"
  path.write_text('{"a": 1}\n{"a": 2}\n')
  assert read_json_lines(path, "", {"a": int}) == [{"a": 1}, {"a": 2}]
  for cut in ('{"a": 1}\n{"a"', '{"a": 1}\n\n', '{"a": 1}\n{"b": 1}\n'):
    path.write_text(cut)
    with pytest.raises(UserError, match="a.jsonl: damaged .*; mend it"):
      read_json_lines(path, "mend it", {"a": int})


def test_the_first_changed_missing_or_unlisted_file_is_found(tmp_path):
  for name in ("a", "b"):
    (tmp_path / name).write_text(name)
  digests = {name: sha256(tmp_path / name) for name in ("a", "b")}
  assert changed_file(tmp_path, digests, ["a"]) is None
  assert changed_file(tmp_path, {"a": digests["a"]}, "ab") == tmp_path / "b"
  assert changed_file(tmp_path, {}, ["a"]) == tmp_path / "a"
  (tmp_path / "a").write_text("c")
  assert changed_file(tmp_path, digests, ()) == tmp_path / "a"
  (tmp_path / "a").unlink()
  for name in ("a", "x" * 999, "a\0"):
    assert changed_file(tmp_path, {name: ""}, ()) == tmp_path / name


def test_a_file_with_a_digest_that_is_needed_is_read_once(
  tmp_path, monkeypatch
):
  read = []
  monkeypatch.setattr(files, "sha256", lambda path: read.append(path.name))
  changed_file(tmp_path, {"a": None}, ["a", "b"])  # type: ignore
  assert read == ["a", "b"]


def test_others_than_the_first_look_only_once_it_is_written(
  tmp_path, monkeypatch
):
  there, path = tmp_path / "there", tmp_path / "later"
  there.touch()
  assert files.is_made(there)
  monkeypatch.setattr(hosts, "is_first", lambda: False)
  assert not files.is_made(there)  # as the first says, which has not looked
  waits = []

  def appear(seconds):
    waits.append(seconds)
    if len(waits) == 3:
      path.touch()

  monkeypatch.setattr(hosts.time, "sleep", appear)
  assert hosts.in_time(path.is_file)
  assert len(waits) == 3
