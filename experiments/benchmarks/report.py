"""What a benchmark leaves: one JSON file, a printed table, a plot."""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.compare_report import lines_of

_WORDS = {"cpu_ms": "CPU ms", "wall_ms": "ms"}


def spread(values: Sequence[float]) -> dict[str, float]:
  """Median and both ends of the repetitions."""
  return {
    "min": min(values),
    "median": statistics.median(values),
    "max": max(values),
  }


def merge(passes: dict[str, dict[str, Any]]) -> dict[str, Any]:
  """The passes of `harness.main`, the headline first, as one dictionary.

  `ratios` are the headline's; `times` and `machine` are by pass.
  """
  headline = next(iter(passes.values()))
  spreads = lambda tree: {k: spread(v) for k, v in tree.items()}
  return {
    **headline["numbers"],
    "headline": next(iter(passes)),
    "clock": "cpu_ms" if headline["one_thread"] else "wall_ms",
    "small": headline["small"],
    "ratios": spreads(headline["ratios"]),
    "ratios_all_cores": spreads(passes["all cores"]["ratios"]),
    "times": {
      name: {k: spreads(v) for k, v in one["times"].items()}
      for name, one in passes.items()
    },
    "repetitions": {name: one["times"] for name, one in passes.items()},
    "first_call_seconds": headline["first_call_seconds"],
    "agreement": headline["agreement"],
    "left_out": headline["left_out"],
    "machine": {name: one["machine"] for name, one in passes.items()},
  }


def headline_times(merged: dict[str, Any]) -> dict[str, dict[str, float]]:
  """CASE/CONTESTANT -> min, median, max in ms by the headline's clock."""
  times = merged["times"][merged["headline"]]
  return {name: clocks[merged["clock"]] for name, clocks in times.items()}


def print_table(merged: dict[str, Any]) -> None:
  """One line a contestant: both passes and how much faster ours is."""
  head = f"{merged['headline']}, {_WORDS[merged['clock']]}"
  print(f"\n{'':40}{head:>32}{'all cores, ms':>15}{'others / ours':>28}")
  everywhere = merged["times"]["all cores"]
  for name, ms in headline_times(merged).items():
    ratio = merged["ratios"].get(name)
    wall = everywhere[name]["wall_ms"]["median"]
    said = _text(ratio) if ratio else "ours"
    print(f"{name:40}{_text(ms):>32}{wall:15.4g}{said:>28}")
  for name, machine in merged["machine"].items():
    print(
      f"{name}: {machine['device']}, {machine['cores_used']} of"
      f" {machine['cores']} cores, load {machine['load_before'][0]:.1f} to"
      f" {machine['load_after'][0]:.1f}, f32 matmul"
      f" {machine['matmul_gflops']:.0f} GFLOP/s"
    )


def to_markdown(merged: dict[str, Any]) -> str:
  """A row a case: ms of ours, and how many times as long the others take.

  Cases that are measured against another contestant have their own table.
  """
  machine = merged["machine"][merged["headline"]]
  libraries = [n for n in ("jax", "torch", "faiss") if n in machine]
  lines = [
    f"{machine['device']}, {merged['headline']}, {machine['matmul_gflops']:.0f}"
    " GFLOP/s in f32 matrix products,"
    f" {', '.join(f'{name} {machine[name]}' for name in libraries)}; others:"
    " times as long, median (min..max)"
  ]
  cases_of: dict[str, list[str]] = {}
  for key in headline_times(merged):
    if key not in merged["ratios"]:
      case, _, ours = key.rpartition("/")
      cases_of.setdefault(ours, []).append(case)
  for ours, cases in cases_of.items():
    lines += ["", *lines_of(_table(merged, ours, cases))]
  return "\n".join([*lines, ""])


def _table(
  merged: dict[str, Any], ours: str, cases: list[str]
) -> list[list[str]]:
  """Rows of cells, the head first; – where one took no part."""
  times, ratios = headline_times(merged), merged["ratios"]
  names = [key.rpartition("/") for key in ratios]
  others = list(dict.fromkeys(n for case, _, n in names if case in cases))
  table = [["", f"{ours}, {_WORDS[merged['clock']]}", *others]]
  for case in cases:
    keys = [f"{case}/{name}" for name in others]
    cells = [
      _text(ratios[key], ".3g") if key in ratios else "–" for key in keys
    ]
    table.append([case, f"{times[f'{case}/{ours}']['median']:.3g}", *cells])
  return table


def _text(of: dict[str, float], form: str = ".4g") -> str:
  return f"{of['median']:{form}} ({of['min']:.3g}..{of['max']:.3g})"


def draw(
  plot: Callable[[dict[str, Any], Path], None],
  merged: dict[str, Any],
  path: Path,
) -> None:
  """Draws without a screen."""
  import matplotlib

  matplotlib.use("Agg")
  plot(merged, path)
  print(f"Plot is in {path}")


def _whiskers(spreads: list[dict[str, float]]) -> list[list[float]]:
  """Distances from the median to both ends, as matplotlib wants them."""
  return [
    [s["median"] - s["min"] for s in spreads],
    [s["max"] - s["median"] for s in spreads],
  ]


def _axis_label(merged: dict[str, Any]) -> str:
  return {
    "cpu_ms": "CPU ms, one thread",
    "wall_ms": "ms",
  }[merged["clock"]] + " (median, min to max)"


def bars(merged: dict[str, Any], path: Path) -> None:
  """A bar for each contestant, coloured by case, on a log scale."""
  import matplotlib.pyplot as plt

  times = headline_times(merged)
  cases = list(dict.fromkeys(name.rpartition("/")[0] for name in times))
  figure, axes = plt.subplots(figsize=(8, 1.2 + 0.3 * len(times)))
  for i, (name, ms) in enumerate(times.items()):
    colour = f"C{cases.index(name.rpartition('/')[0]) % 10}"
    axes.barh(
      i, ms["median"], xerr=_whiskers([ms]), color=colour, capsize=3, height=0.7
    )
  axes.set_yticks(range(len(times)), list(times))
  axes.invert_yaxis()
  axes.set_xscale("log")
  axes.set_xlabel(_axis_label(merged))
  figure.savefig(path, dpi=150, bbox_inches="tight")
  plt.close(figure)


def lines(
  merged: dict[str, Any], path: Path, x_of_case: dict[str, float], x_label: str
) -> None:
  """A line for each contestant over the cases' x, on log scales."""
  import matplotlib.pyplot as plt

  times = headline_times(merged)
  names = dict.fromkeys(
    n.rpartition("/")[2] for n in times if n.rpartition("/")[0] in x_of_case
  )
  figure, axes = plt.subplots(figsize=(7, 4.5))
  for name in names:
    points = {
      x: times[f"{case}/{name}"]
      for case, x in sorted(x_of_case.items(), key=lambda pair: pair[1])
      if f"{case}/{name}" in times
    }
    spreads = list(points.values())
    axes.errorbar(
      list(points),
      [s["median"] for s in spreads],
      yerr=_whiskers(spreads),
      label=name,
      marker="o",
      capsize=3,
    )
  axes.set_xscale("log")
  axes.set_yscale("log")
  axes.set_xlabel(x_label)
  axes.set_ylabel(_axis_label(merged))
  axes.legend()
  figure.savefig(path, dpi=150, bbox_inches="tight")
  plt.close(figure)
