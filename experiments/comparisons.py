"""Which rows of a table are tested against which, and how that is printed."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.planning import DISTILLED
from experiments.runs import Run
from mmgrec_jax.arrays import Form, read_arrays
from mmgrec_jax.evaluation import significance
from mmgrec_jax.files import AGAIN

# mmgrec's own first stage, its beams before they are re-scored, and re-scored
# without EASE: no rivals.
PARTS = ("embedding", "generator", "without_ease")
# The best of the paper's others, which it tests MMGRec against.
PAPERS_BEST = "lightgt"
PAPERS_METRICS = ("recall@10", "ndcg@10")  # alone in tests on its claims


class Scored(NamedTuple):
  """One row's part in one run."""

  run: Run
  system: str  # its name in the run's files
  results: dict[str, Any]  # what results.json holds

  def per_user(self, metric: str) -> np.ndarray:
    """On the test split, [n_users]."""
    name = f"test/{self.system}/{metric}"
    path = self.run.folder / "per_user.npz"
    return read_arrays(path, AGAIN, {name: Form(float, "N")})[name]


# Rows of the table in order, each with its part in each seed's run.
Rows = Mapping[str, Mapping[int, Scored]]


def beams_row(row: str) -> str:
  """The row of a changed mmgrec's beams before they are re-scored."""
  return f"{row}: generator"


def pairs(
  rows: Rows, systems: Mapping[str, Any], metric: str
) -> Iterator[tuple[str, str]]:
  """Yields (row, the row that it is tested against).

  mmgrec, or else the best system, against the best of the others; mmgrec
  against its own vectors; so the beams of `DISTILLED`, too. By the paper's
  metrics, mmgrec against its `PAPERS_BEST`, and changed beams against mmgrec's.

  Args:
    systems: what `summarise` found, by row.
  """
  mean = lambda row: systems[row]["test"][metric]["mean"]
  system = lambda row: next(iter(rows[row].values())).system
  rivals = [
    row
    for row in rows
    if system(row) not in PARTS
    and row != DISTILLED
    and metric in systems[row]["test"]
  ]
  ranked = sorted(rivals, key=mean, reverse=True)
  if "mmgrec" not in ranked:
    yield from itertools.pairwise(ranked[:2])
  ours = [row for row in ("mmgrec", beams_row(DISTILLED)) if row in rows]
  best = [row for row in ranked if row != "mmgrec"][:1]
  own = ["embedding"] if "embedding" in rows else []
  yield from itertools.product(ours, [*best, *own])
  if metric not in PAPERS_METRICS:
    return
  if "mmgrec" in rows and PAPERS_BEST in ranked and best != [PAPERS_BEST]:
    yield "mmgrec", PAPERS_BEST
  if "generator" in rows:
    for row in rows:
      if row.endswith(beams_row("")):
        yield row, "generator"


def compare(
  rows: Rows, systems: Mapping[str, Any], ours: str, other: str, metric: str
) -> dict[str, Any]:
  """One row against another on the test split: difference and three tests.

  Args:
    systems: as of `pairs`.
  """
  mean, others = (systems[row]["test"][metric]["mean"] for row in (ours, other))
  values = lambda row: systems[row]["test"][metric]["values"]

  def users(row: str) -> np.ndarray:
    return np.mean([p.per_user(metric) for p in rows[row].values()], axis=0)

  return {
    "metric": metric,
    "system": ours,
    "other": other,
    "difference": mean - others,
    "relative": mean / others - 1 if others else None,
    "one_sample": significance.one_sample(values(ours), others),
    "welch": significance.welch(values(ours), values(other)),
    "paired": significance.paired(users(ours), users(other)),
  }


def table(tests: Sequence[Mapping[str, Any]]) -> list[list[str]]:
  """What `compare` found, as rows of text below their heads."""
  rows = [["", "system", "against", "difference", "one-sample t", "Welch",
           "paired over users"]]  # fmt: skip
  for test in tests:
    difference = f"{test['difference']:+.4f}"
    if test["relative"] is not None:
      difference += f" ({test['relative']:+.1%})"
    rows.append(
      [
        head(test["metric"]),
        test["system"],
        test["other"],
        difference,
        *(_p(test[name]) for name in ("one_sample", "welch", "paired")),
      ]
    )
  return rows


def head(metric: str) -> str:
  return metric.replace("recall", "Recall").replace("ndcg", "NDCG")


def _p(outcome: significance.Outcome) -> str:
  return "–" if outcome is None else f"{outcome['p']:.2g}"
