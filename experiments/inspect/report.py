"""What experiments.inspect leaves for people: tables and plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.compare_report import lines_of

_CALIBRATED = {
  "top": "First item of each list",
  "beams": "All of the widest beams",
}


def to_markdown(summary: Mapping[str, Any]) -> str:
  facts = summary["dataset"]
  parts = [
    f"# {summary['system']} on {facts['name']}, split {summary['split']}",
    "## Whom and what the top 10 serves",
    *_lists(summary),
    f"## The generator, over {summary['users_examined']:,} users",
    *_beams(summary),
    *_calibration(summary),
    *_levels(summary["levels"]),
    "## Neighbours by Rec-ID",
    *map(_neighbours, summary["neighbours"]),
  ]
  return "\n\n".join(parts) + "\n"


def _lists(summary: Mapping[str, Any]) -> list[str]:
  systems = summary["systems"]
  of_items, of_users = summary["popularity_buckets"], summary["history_buckets"]
  overall = [
    [name, *_cells([found["recall@10"], found["coverage"], found["gini"]])]
    for name, found in systems.items()
  ]

  def table(key, buckets, name, last):
    rows = [[system, *_cells(found[key])] for system, found in systems.items()]
    head = ["system", *map(_bounds, buckets)]
    return _table([head, *rows, [name, *last]])

  return [
    _table([["system", "Recall@10", "coverage", "Gini"], *overall]),
    "Coverage: share of items that anyone is recommended. Gini of training"
    f" interactions: {summary['training_gini']:.3f}.",
    "Recall@10 by training interactions of the item:",
    table(
      "recall_by_popularity",
      of_items,
      "(items)",
      [f"{bucket['items']:,}" for bucket in of_items],
    ),
    "Share of the recommended, and of the split's interactions:",
    table(
      "shown_by_popularity",
      of_items,
      "(split)",
      _cells([bucket["truth"] for bucket in of_items]),
    ),
    "Recall@10 by training items of the user:",
    table(
      "recall_by_history",
      of_users,
      "(users)",
      [f"{bucket['users']:,}" for bucket in of_users],
    ),
  ]


def _beams(summary: Mapping[str, Any]) -> list[str]:
  exact = summary["exact_recall@10"]
  rows = [["beam width", "of the exact top 10", "Recall@10", "loss"]]
  for width, found in summary["beams"].items():
    recall = found["recall@10"]
    rows.append([width, *_cells([found["found"], recall, exact - recall], 4)])
  return [
    "Beam search against the exact ranking of all items by the generator's own"
    f" probability, whose Recall@10 is {exact:.4f}:",
    _table(rows),
  ]


def _calibration(summary: Mapping[str, Any]) -> list[str]:
  parts = [
    "Calibration: the probability of a recommended item among the unseen ones,"
    " against the share of the user's items in the split that it is."
    f" {summary['wasted_probability']:.1%} of all probability lies outside the"
    " unseen items."
  ]
  for name, found in summary["calibration"].items():
    error = f"expected calibration error {found['ece']:.4f}"
    rows = [["predicted", "came true", "predictions"]]
    for b in found["buckets"]:
      scores = _cells([b["predicted"], b["came_true"]], 4)
      rows.append([*scores, f"{b['count']:,}"])
    parts += [f"{_CALIBRATED[name]}: {error}", _table(rows)]
  return parts


def _levels(levels: Sequence[Mapping[str, float]]) -> list[str]:
  rows = [["level", "best", "among the best 10", "tokens allowed"]]
  for m, one in enumerate(levels, start=1):
    shares = _cells([one["top1"], one["top10"]])
    rows.append([str(m), *shares, f"{one['choices']:.1f}"])
  return [
    "Is each level's token right, given the right ones before it?",
    _table(rows),
  ]


def _neighbours(one: Mapping[str, Any]) -> str:
  """An item, and a line for each number of tokens in common."""
  lines = [f"{one['item']} ({', '.join(map(str, one['rec_id']))})", ""]
  for m, others in one["shares"].items():
    names = "; ".join(others["items"]) or "-"
    if others["count"] > len(others["items"]):
      names += "; …"
    tokens = "token" if m == "1" else "tokens"
    lines.append(f"- {m} {tokens} in common, {others['count']:,}: {names}")
  return "\n".join(lines)


def _bounds(bucket: Mapping[str, int]) -> str:
  """A bucket's name."""
  low, high = bucket["low"], bucket["high"]
  return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _table(rows: Sequence[Sequence[str]]) -> str:
  return "\n".join(lines_of(rows))


def _cells(values: Sequence[float | None], digits: int = 3) -> list[str]:
  return ["-" if v is None else f"{v:.{digits}f}" for v in values]


def plot_lists(summary: Mapping[str, Any], path: Path) -> None:
  """Recall@10 by popularity of the item and by length of the history."""
  import matplotlib.pyplot as plt

  figure, panels = plt.subplots(1, 3, figsize=(14, 4))
  for axes, key, buckets, what in zip(
    panels,
    ("recall_by_popularity", "shown_by_popularity", "recall_by_history"),
    ("popularity_buckets", "popularity_buckets", "history_buckets"),
    ("Recall@10", "share of the recommended", "Recall@10"),
    strict=True,
  ):
    names = [_bounds(bucket) for bucket in summary[buckets]]
    for system, found in summary["systems"].items():
      values = [float("nan") if v is None else v for v in found[key]]
      axes.plot(names, values, "o-", label=system)
    of = "item" if buckets == "popularity_buckets" else "user"
    axes.set_xlabel(f"training interactions of the {of}")
    axes.set_ylabel(what)
  panels[0].legend()
  _save(figure, path)


def plot_generator(summary: Mapping[str, Any], path: Path) -> None:
  """Calibration, beam widths and levels."""
  import matplotlib.pyplot as plt

  figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4))
  for name, found in summary["calibration"].items():
    left.plot(
      [b["predicted"] for b in found["buckets"]],
      [b["came_true"] for b in found["buckets"]],
      "o-",
      label=f"{_CALIBRATED[name]}, error {found['ece']:.4f}",
    )
  largest = max(
    b["predicted"]
    for f in summary["calibration"].values()
    for b in f["buckets"]
  )
  left.plot([0, largest], [0, largest], "--", color="grey")
  left.set_xlabel("predicted probability")
  left.set_ylabel("share that came true")
  left.legend()

  beams = summary["beams"]
  middle.plot(list(beams), [b["recall@10"] for b in beams.values()], "o-")
  middle.axhline(summary["exact_recall@10"], ls="--", color="grey")
  middle.set_xlabel("beam width (dashed: exact)")
  middle.set_ylabel("Recall@10")

  for shift, key, label in (
    (-0.2, "top1", "best"),
    (0.2, "top10", "among the best 10"),
  ):
    right.bar(
      [m + shift for m in range(1, len(summary["levels"]) + 1)],
      [one[key] for one in summary["levels"]],
      width=0.38,
      label=label,
    )
  right.set_xticks(range(1, len(summary["levels"]) + 1))
  right.set_xlabel("level of the Rec-ID")
  right.set_ylabel("share of right tokens")
  right.legend()
  _save(figure, path)


def _save(figure, path: Path) -> None:
  import matplotlib.pyplot as plt

  figure.tight_layout()
  figure.savefig(path, dpi=150)
  plt.close(figure)
