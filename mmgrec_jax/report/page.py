"""report.html: a whole run to look at, in one file that needs no other."""

import base64
import functools
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmgrec_jax import config as configs
from mmgrec_jax.data.dataset import SPLITS, TRAIN, Dataset
from mmgrec_jax.data.pictures import open_picture
from mmgrec_jax.errors import UserError
from mmgrec_jax.files import AGAIN, read_json, read_json_lines, write_text
from mmgrec_jax.recid import neighbours
from mmgrec_jax.recid.assign import RecIds, load_rec_ids
from mmgrec_jax.report import figures
from mmgrec_jax.report.tables import SPLIT_NAMES
from mmgrec_jax.stages.results import read_per_user, read_results
from mmgrec_jax.stages.vectors import read_vectors

USERS, SHOWN = 6, 8  # examples, and items of each
THUMBNAIL = 96  # pixels

# What is read of a run's files, as of `files.misfit`.
HEALTH = {
  "r2": float, "collision_rate": float, "largest_group": int,
  "usage": [float], "perplexity": [float],
}  # fmt: skip
EPOCH = {"stage": str, "epoch": int, "loss": float, "valid": (float,)}

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1f24; background: #fff;
  max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.4rem; font-size: 1.2rem;
  border-bottom: 1px solid #d8dce2; }
table { border-collapse: collapse; margin: .8rem 0; }
td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
tr.own { font-weight: 600; }
svg { max-width: 100%; height: auto; }
.users { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(310px, 1fr)); }
.user img { height: 2.6em; vertical-align: middle; margin-right: .4em; }
.user { border: 1px solid #d8dce2; border-radius: 6px; padding: .6rem 1rem; }
.hit { color: #14652f; font-weight: 600; } .quiet { color: #626973; }
ol, ul { margin: .2rem 0; padding-left: 1.4rem; } code { font-size: .9em; }
"""


def write_report(config: configs.Config, data: Dataset, folder: Path) -> Path:
  """Reads a finished workdir; returns report.html's path.

  Raises:
    UserError: a file of it is missing or damaged.
  """
  split = config.evaluation.splits[-1]
  results = read_results(config, folder)
  *_, system = results[split]  # the run's own
  path = folder / "recids.npz"
  rec_ids = load_rec_ids(path, data.n_items) if path.is_file() else None
  parts = [
    _section("Data", data_table(results["dataset"])),
    _section(f"Scores, {SPLIT_NAMES[split]} split", scores(results, split)),
    _section("Learning curves", curves(folder / "metrics.jsonl")),
    _section("Rec-IDs", rec_id_health(config, data, rec_ids, folder)),
    _section("Recommendations", examples(config, data, folder, system)),
    _section("Neighbours by Rec-ID", neighbourhoods(data, rec_ids)),
    _section("Time", seconds(results)),
    _section("Settings", settings(config, data)),
  ]
  title = html.escape(f"{config.system} on {data.name}")
  page = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    f"<title>{title}</title><style>{STYLE}</style></head>\n<body>"
    f"<h1>{title}</h1>\n{''.join(parts)}</body></html>\n"
  )
  path = folder / "report.html"
  write_text(path, page)
  return path


def _section(title: str, body: str) -> str:
  """Nothing for a system that has nothing to show there."""
  return f"<h2>{html.escape(title)}</h2>\n{body}\n" if body else ""


def data_table(facts: Mapping[str, Any]) -> str:
  rows = [
    ("users", f"{facts['users']:,}"),
    ("items", f"{facts['items']:,}"),
    ("interactions", f"{facts['interactions']:,}"),
    ("density", f"{facts['density']:.4%}"),
    *((split, f"{facts[split]:,}") for split in SPLITS),
    ("longest history", f"{facts['longest_history']:,}"),
    ("users without training items", f"{facts['users_without_train']:,}"),
    ("items without training users", f"{facts['items_without_train']:,}"),
    *((f"{m} feature", f"{w:,} wide") for m, w in facts["modalities"].items()),
  ]
  return _table(["", facts["name"]], rows)


def scores(results: Mapping[str, Any], split: str) -> str:
  systems = results[split]
  names = list(next(iter(systems.values())))
  rows = [
    (system, *(f"{values[name]:.4f}" for name in names))
    for system, values in systems.items()
  ]
  middle = sorted({int(name.partition("@")[2]) for name in names})
  k = 10 if 10 in middle else middle[0]
  bars = figures.svg(figures.score_bars(systems, k))
  return f"{bars}{_table(['system', *names], rows, last_is_own=True)}"


def curves(path: Path) -> str:
  if not path.is_file():
    return ""
  lines = read_json_lines(path, AGAIN, EPOCH)
  return figures.svg(figures.learning_curves(lines)) if lines else ""


def rec_id_health(
  config: configs.Config, data: Dataset, rec_ids: RecIds | None, folder: Path
) -> str:
  health = folder / "recid_health.json"
  if rec_ids is None or not health.is_file():
    return ""
  facts = read_json(health, AGAIN, HEALTH)
  if len(facts["usage"]) != len(facts["perplexity"]):
    raise UserError(f"{health}: damaged (levels); {AGAIN}.")
  semantic_IxS = rec_ids.tokens_IxM[:, :-1]
  rows = [
    ("variance explained (R²)", f"{facts['r2']:.3f}"),
    ("items that share all semantic tokens", f"{facts['collision_rate']:.1%}"),
    ("largest group", f"{facts['largest_group']:,}"),
    *(
      (f"level {m}", f"{usage:.1%} of codewords used, perplexity {p:.1f}")
      for m, (usage, p) in enumerate(
        zip(facts["usage"], facts["perplexity"], strict=True), start=1
      )
    ),
  ]
  drawn = [
    figures.usage_bars(semantic_IxS, rec_ids.vocabulary[0]),
    figures.group_sizes(semantic_IxS),
  ]
  caption = ""
  if config.system != "tiger":  # which has no vectors
    vectors = read_vectors(folder / "embed" / "vectors.npz", data)
    drawn.append(figures.item_map(vectors["item"], semantic_IxS[:, 0]))
    caption = (
      '<p class="quiet">Items by the two principal axes of their vectors,'
      " coloured by their first token.</p>"
    )
  return _table(["", ""], rows) + "".join(map(figures.svg, drawn)) + caption


def examples(
  config: configs.Config, data: Dataset, folder: Path, system: str
) -> str:
  """Some users: their history, a system's list, hits marked."""
  split = config.evaluation.splits[-1]
  per_user = read_per_user(data, folder, split, [system])
  users, items_NxK = per_user["users"], per_user[f"{system}/items"]
  train, truth = data.rows(TRAIN), data.rows(SPLITS[split])
  cards = []
  for place in np.linspace(0, len(users) - 1, USERS).astype(int):
    user = int(users[place])
    seen, liked = train.of(user), set(truth.of(user).tolist())
    some = [_item(data, i) for i in seen[:: -(-len(seen) // SHOWN)]]
    found = "".join(
      f'<li class="hit">{_item(data, i)} ✓</li>'
      if i in liked
      else f"<li>{_item(data, i)}</li>"
      for i in items_NxK[place][:SHOWN].tolist()
      if i >= 0
    )
    cards.append(
      f'<div class="user"><b>user {html.escape(str(data.user_ids[user]))}</b>'
      f' <span class="quiet">likes {len(seen)} items, such as</span>'
      f"<ul>{''.join(f'<li>{item}</li>' for item in some)}</ul>"
      f'<span class="quiet">is recommended (✓ = in their'
      f" {SPLIT_NAMES[split]} items)</span><ol>{found}</ol></div>"
    )
  return f'<div class="users">{"".join(cards)}</div>'


def neighbourhoods(data: Dataset, rec_ids: RecIds | None) -> str:
  if rec_ids is None:
    return ""
  parts = []
  for one in neighbours.of_items(data, rec_ids):
    rows = [
      (m, f"{others['count']:,}", "; ".join(others["items"]) or "–")
      for m, others in one["shares"].items()
    ]
    rec_id = "-".join(map(str, one["rec_id"]))
    parts.append(
      f"<p><b>{html.escape(one['item'])}</b> <code>{rec_id}</code></p>"
      + _table(["first tokens in common", "items", "the most popular"], rows)
    )
  return "".join(parts)


def seconds(results: Mapping[str, Any]) -> str:
  rows = [
    (stage, f"{value:,.0f} s") for stage, value in results["seconds"].items()
  ]
  rows += [
    (f"{system}: lists for 1,000 users", f"{value:.2f} s")
    for system, value in results["seconds_per_1000_users"].items()
  ]
  return _table(["", ""], rows)


def settings(config: configs.Config, data: Dataset) -> str:
  like = configs.default_config(config.system, config.get("embedding", "gcn"))
  defaults = dict(configs.flatten(like))
  rows = [
    (
      key,
      json.dumps(value),
      "" if defaults.get(key) == value else "not default",
    )
    for key, value in configs.flatten(config)
  ]
  return (
    f"<p>Data set fingerprint <code>{data.fingerprint}</code></p>"
    f"<details><summary>every setting</summary>{_table(['', '', ''], rows)}"
    "</details>"
  )


def _item(data: Dataset, item: int) -> str:
  """Its title or id, and its picture where that is still there."""
  picture = "" if data.pictures is None else str(data.pictures[item])
  return f"{_thumbnail(picture)}{html.escape(str(data.names[item]))}"


@functools.cache
def _thumbnail(path: str) -> str:
  """The picture itself, small, inside the page."""
  packed = io.BytesIO()
  try:
    small = open_picture(Path(path))
  except UserError:  # moved since the data set was made, or none
    return ""
  small.thumbnail((THUMBNAIL, THUMBNAIL))
  small.save(packed, "JPEG")
  data = base64.b64encode(packed.getvalue()).decode()
  return f'<img alt="" src="data:image/jpeg;base64,{data}">'


def _table(
  head: Sequence[str],
  rows: Sequence[Sequence[str]],
  last_is_own: bool = False,
) -> str:
  """Numbers to the right; the run's own system, the last one, stands out."""
  number = lambda text: text.replace(",", "").replace(".", "").isdecimal()
  cell = lambda tag, text, right: (
    f"<{tag}{' class=n' if right else ''}>{html.escape(text)}</{tag}>"
  )
  right = [bool(rows) and number(text) for text in rows[-1]]
  lines = []
  if any(head):
    cells = (cell("th", t, r) for t, r in zip(head, right, strict=True))
    lines.append(f"<tr>{''.join(cells)}</tr>")
  for row in rows:
    own = " class=own" if last_is_own and row is rows[-1] else ""
    cells = (cell("td", t, r) for t, r in zip(row, right, strict=True))
    lines.append(f"<tr{own}>{''.join(cells)}</tr>")
  return f"<table>{''.join(lines)}</table>"
