import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from mmgrec_jax.arrays import read_arrays, write_arrays
from mmgrec_jax.errors import UserError
from mmgrec_jax.report import figures, page
from mmgrec_jax.serving.trained import open_workdir

VOID = {"meta", "path", "use", "image", "rect", "br", "img"}


class Outline(HTMLParser):
  """Headings and all text; every element must be closed by its own tag."""

  def __init__(self, text):
    super().__init__()
    self.open, self.headings, self.words = [], [], []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    if tag not in VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    pass

  def handle_endtag(self, tag):
    if tag not in VOID:
      assert self.open.pop() == tag

  def handle_data(self, data):
    self.words.append(data)
    if self.open and self.open[-1] == "h2":
      self.headings.append(data)


@pytest.fixture
def report_of(mmgrec_run, tmp_path):
  """The report of the small run, its data set changed."""
  run = open_workdir(mmgrec_run)
  folder = shutil.copytree(mmgrec_run, tmp_path / "run")

  def write(**changes):
    data = dataclasses.replace(run.data, **changes)
    page.write_report(run.config, data, folder)
    return (folder / "report.html").read_text(encoding="utf-8")

  return write


def test_a_run_leaves_a_page_that_needs_nothing_else(mmgrec_run):
  text = (mmgrec_run / "report.html").read_text(encoding="utf-8")
  outline = Outline(text)
  assert outline.open == []
  assert outline.headings == [
    "Data", "Scores, validation split", "Learning curves", "Rec-IDs",
    "Recommendations", "Neighbours by Rec-ID", "Time", "Settings",
  ]  # fmt: skip
  # Names of XML vocabularies are no addresses to load from.
  loaded = re.findall(r'(?:src|href)="(?!#|data:)([^"]*)"', text)
  assert loaded == [] and "<script" not in text and "@import" not in text
  scores = json.loads((mmgrec_run / "results.json").read_text())["valid"]
  for values in scores.values():
    assert f"{values['recall@10']:.4f}" in outline.words


def test_systems_without_rec_ids_have_shorter_pages(report_of, tmp_path):
  report_of()
  for name in ("recids.npz", "recid_health.json", "metrics.jsonl"):
    (tmp_path / "run" / name).unlink()
  headings = Outline(report_of()).headings
  assert "Rec-IDs" not in headings and "Learning curves" not in headings
  assert "Recommendations" in headings


def test_hits_are_marked_as_often_as_they_are_there(report_of, mmgrec_run):
  text = report_of()
  run = open_workdir(mmgrec_run)
  truth = run.data.rows(1)
  with np.load(mmgrec_run / "per_user.npz") as saved:
    users, items = saved["valid/users"], saved["valid/mmgrec/items"]
  picks = np.linspace(0, len(users) - 1, page.USERS).astype(int)
  hits = 0
  for place in picks:
    liked = truth.items[slice(*truth.offset[users[place] : users[place] + 2])]
    hits += np.isin(items[place][: page.SHOWN], liked).sum()
  assert 0 < hits == text.count('<li class="hit">')


def test_what_people_write_into_titles_is_text(report_of, small_data):
  titles = np.array([f"<script>{i}</script> & Söhne" for i in range(30)])
  text = report_of(titles=titles)
  assert "<script>" not in text and "&lt;script&gt;" in text
  assert Outline(text).open == []


def test_pictures_are_in_the_page_where_they_are(report_of, tmp_path):
  paths = [tmp_path / f"{i}.png" for i in range(30)]
  for path in paths[:20]:
    Image.new("RGB", (300, 200), "red").save(path)
  paths[20].write_text("no picture")
  text = report_of(pictures=np.array([*map(str, paths[:29]), ""]))
  assert text.count('src="data:image/jpeg;base64,') > 5
  assert Outline(text).open == []
  assert len(page._thumbnail(str(paths[0]))) < 3000
  assert page._thumbnail(str(paths[20])) == page._thumbnail("") == ""


@pytest.mark.parametrize(
  ("name", "text", "says"),
  [
    ("results.json", "{}", "'dataset' is missing or wrong"),
    ("results.json", "", "results.json: damaged"),
    ("metrics.jsonl", '{"stage": "generate"}', "'epoch' is missing or wrong"),
    ("metrics.jsonl", '{"stage":', "metrics.jsonl: damaged"),
    ("recid_health.json", '{"r2": "high"}', "'r2' is missing or wrong"),
    ("per_user.npz", "", "per_user.npz: damaged"),
    ("recids.npz", "", "recids.npz: damaged"),
    ("embed/vectors.npz", "", "vectors.npz: damaged"),
  ],
)
def test_a_damaged_file_is_named(report_of, tmp_path, name, text, says):
  (tmp_path / "run" / name).write_text(text)
  with pytest.raises(UserError, match=f"{says}.*; delete it"):
    report_of()


def test_levels_without_a_partner_are_named(report_of, tmp_path):
  path = tmp_path / "run" / "recid_health.json"
  health = json.loads(path.read_text())
  path.write_text(json.dumps({**health, "usage": health["usage"][1:]}))
  with pytest.raises(UserError, match="recid_health.json: damaged .levels"):
    report_of()


def test_lists_of_other_data_are_named(report_of, tmp_path):
  path = tmp_path / "run" / "per_user.npz"
  arrays = read_arrays(path, "")
  write_arrays(path, arrays | {"valid/users": arrays["valid/users"] + 40})
  with pytest.raises(UserError, match="'users' has values from .* 0..39"):
    report_of()
  write_arrays(path, {k: v for k, v in arrays.items() if "mmgrec" not in k})
  with pytest.raises(UserError, match="no 'mmgrec/items'"):
    report_of()


def test_many_items_are_drawn_as_a_part_of_them(rng, monkeypatch):
  monkeypatch.setattr(figures, "MAP_POINTS", 50)
  figure = figures.item_map(rng.normal(size=(200, 4)), np.arange(200))
  assert len(figure.axes[0].collections[0].get_offsets()) == 50


def test_vectors_of_one_number_are_a_line(rng):
  figure = figures.item_map(rng.normal(size=(20, 1)), np.arange(20))
  place_Ix2 = figure.axes[0].collections[0].get_offsets()
  assert np.ptp(place_Ix2[:, 0]) > 0 and not place_Ix2[:, 1].any()


def test_a_large_group_is_no_more_to_draw():
  semantic_IxS = np.array([*np.zeros(5000), 1, 1, 2])[:, None]
  figure = figures.group_sizes(semantic_IxS)
  (outline,) = figure.axes[0].patches
  groups, edges, _ = outline.get_data()
  assert dict(zip(edges[:-1] + 0.5, groups, strict=True)) == {
    **dict.fromkeys(range(1, 5001), 0), 1: 1, 2: 1, 5000: 1
  }  # fmt: skip
