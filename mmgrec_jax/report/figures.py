"""The pictures of a run's report, as SVG text."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Validated for people who see colours differently; text is never coloured.
BLUE, ORANGE, GREY = "#2a6fbb", "#c9601e", "#8a8f98"
MAP_POINTS = 20_000


def svg(figure: Figure) -> str:
  """The `<svg>` element alone; no date, so that equal runs look equal."""
  text = io.StringIO()
  figure.savefig(text, format="svg", metadata={"Date": None})
  whole = text.getvalue()
  return whole[whole.index("<svg") :]


def learning_curves(lines: Sequence[Mapping[str, Any]]) -> Figure:
  """One panel a stage: loss, and validation score where there is one.

  Args:
    lines: of metrics.jsonl.
  """
  stages = list(dict.fromkeys(line["stage"] for line in lines))
  figure = Figure(figsize=(3.6 * len(stages), 2.8), layout="constrained")
  for column, stage in enumerate(stages, start=1):
    own = [line for line in lines if line["stage"] == stage]
    scored = [line for line in own if "valid" in line]
    axes = figure.add_subplot(1, len(stages), column)
    epochs = [line["epoch"] for line in own]
    axes.plot(epochs, [line["loss"] for line in own], color=BLUE)
    axes.set(title=stage, xlabel="epoch")
    axes.set_ylabel("loss (blue)" if scored else "loss")
    _plain(axes)
    if scored:
      right = axes.twinx()
      right.plot(
        [line["epoch"] for line in scored],
        [line["valid"] for line in scored],
        color=ORANGE,
      )
      right.set_ylabel("validation (orange)")
      right.spines["top"].set_visible(False)
  return figure


def usage_bars(semantic_IxS: np.ndarray, codebook_size: int) -> Figure:
  """Items of each codeword, the most used first, one panel a level."""
  levels = semantic_IxS.shape[1]
  figure = Figure(figsize=(3.6 * levels, 2.4), layout="constrained")
  axes = None
  for level in range(levels):
    count = np.bincount(semantic_IxS[:, level], minlength=codebook_size)
    axes = figure.add_subplot(1, levels, level + 1, sharey=axes)
    # One outline, not a bar each: a codebook may have thousands.
    axes.stairs(np.sort(count)[::-1], fill=True, color=BLUE)
    axes.set(title=f"level {level + 1}", xlabel="codewords, most used first")
    if level == 0:
      axes.set_ylabel("items")
    _plain(axes)
  return figure


def group_sizes(semantic_IxS: np.ndarray) -> Figure:
  """How many groups of equal semantic tokens have how many items."""
  _, size = np.unique(semantic_IxS, axis=0, return_counts=True)
  figure = Figure(figsize=(5, 2.4), layout="constrained")
  axes = figure.add_subplot()
  groups = np.bincount(size)[1:]
  # One outline, not a bar each: a group may have thousands.
  axes.stairs(groups, 0.5 + np.arange(len(groups) + 1), fill=True, color=BLUE)
  axes.set(xlabel="items that share all semantic tokens", ylabel="groups")
  axes.set_yscale("log")
  axes.xaxis.set_major_locator(MaxNLocator(integer=True))
  _plain(axes)
  return figure


def item_map(x_IxD: np.ndarray, first_I: np.ndarray) -> Figure:
  """Items on the two principal axes, coloured by their first token."""
  rng = np.random.default_rng(0)
  if len(x_IxD) > MAP_POINTS:
    chosen = rng.choice(len(x_IxD), MAP_POINTS, replace=False)
    x_IxD, first_I = x_IxD[chosen], first_I[chosen]
  centred_IxD = x_IxD - x_IxD.mean(axis=0)
  _, axes_DxD = np.linalg.eigh(centred_IxD.T @ centred_IxD)
  place_Ix2 = centred_IxD @ axes_DxD[:, :-3:-1]
  if place_Ix2.shape[1] < 2:  # vectors of one number
    place_Ix2 = np.pad(place_Ix2, [(0, 0), (0, 1)])
  figure = Figure(figsize=(6, 5), layout="constrained")
  axes = figure.add_subplot()
  # Neighbouring numbers need other colours: tokens have no order.
  colour_I = rng.permutation(int(first_I.max()) + 1)[first_I]
  axes.scatter(
    *place_Ix2.T, c=colour_I, cmap="turbo", s=5, linewidths=0, rasterized=True
  )
  axes.set(xlabel="first principal axis", ylabel="second principal axis")
  axes.set(xticks=[], yticks=[])
  _plain(axes)
  return figure


def score_bars(results: Mapping[str, Mapping[str, float]], k: int) -> Figure:
  """Recall@K and NDCG@K of each system."""
  systems = list(results)
  figure = Figure(figsize=(7, 0.8 + 0.35 * len(systems)), layout="constrained")
  for column, (metric, name) in enumerate(
    (("recall", "Recall"), ("ndcg", "NDCG")), start=1
  ):
    values = [results[system][f"{metric}@{k}"] for system in systems]
    axes = figure.add_subplot(1, 2, column)
    # The last system is the run's own.
    colours = [GREY] * (len(systems) - 1) + [BLUE]
    bars = axes.barh(systems, values, color=colours)
    axes.bar_label(bars, fmt="%.4f", padding=3, fontsize=8)
    axes.set(title=f"{name}@{k}", xlim=(0, 1.25 * max(values)))
    axes.invert_yaxis()
    _plain(axes)
  return figure


def _plain(axes) -> None:
  axes.spines[["top", "right"]].set_visible(False)
