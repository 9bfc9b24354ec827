"""The other systems, re-scored as MMGRec's beams are: what do beams add?

Command: python -m experiments.rescored --datasets=lfm2k=DIR,ml100k=DIR \\
           --seeds=5 --out=runs/tables

Of the runs that experiments.table2 has left there, with the same --datasets,
--seeds and --out. Of each system with vectors the items with the largest
h_u . h_i take the place of MMGRec's beams, as many: they are put in the order
of h_u . h_i, features and EASE, with weights learned on validation as MMGRec's
are. `embedding` are MMGRec's own vectors, without its beams. Nothing is
trained; it takes seconds a run, and the same command goes on where it was.

OUT gets rescored.json, rescored.md, a chart for each data set and, in
OUT/<data set>/rescored/<row>-<seed>, what each run came to. Exit codes: 0 done,
2 wrong input or a missing run, 130 stopped.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
from tqdm import tqdm

from experiments import compare_report, runs, tables
from experiments.benchmarks import report
from experiments.compare_report import FIELDS
from experiments.runs import Run
from mmgrec_jax import config as configs
from mmgrec_jax.arrays import write_arrays
from mmgrec_jax.errors import UserError
from mmgrec_jax.evaluation.evaluate import evaluate
from mmgrec_jax.files import write_text
from mmgrec_jax.models.generator import Vectors
from mmgrec_jax.models.settings import ITEM_ITEM
from mmgrec_jax.serving.trained import Trained, open_workdir, vectors_file
from mmgrec_jax.stages import rescoring
from mmgrec_jax.stages.rankers import Search
from mmgrec_jax.stages.results import ranker_of
from mmgrec_jax.stages.vectors import read_vectors
from mmgrec_jax.training import parallel

EMBEDDING = "embedding"  # the vectors of mmgrec's own runs
ROWS = (
  *(s for s in configs.SYSTEMS if s not in ITEM_ITEM and s != "tiger"),
  EMBEDDING,
)


def parser() -> argparse.ArgumentParser:
  out = runs.new_parser("rescored", __doc__)
  tables.add_data_sets(out)
  runs.add_models(out, ROWS)
  return out


class Rescored(NamedTuple):
  """A run of a table, and where it goes when it is re-scored."""

  run: Run  # mmgrec's for `embedding`
  ours: Run  # mmgrec's of the same seed
  again: Run
  data: str | None  # where it is; None: where the run found it

  @property
  def finished(self) -> bool:
    """Since both runs were."""
    at = lambda run: (run.folder / "results.json").stat().st_mtime
    newest = max(at(self.run), at(self.ours))
    return self.again.finished and at(self.again) >= newest


def plan(given: argparse.Namespace) -> list[Rescored]:
  """All of them, seed by seed.

  Raises:
    UserError: nothing is called so, or a run is not there.
  """
  rows, planned = runs.chosen_rows(given.models, ROWS), []
  for one in tables.data_sets(given, {}):
    for seed in tables.seeds_of(given.seeds):
      run_of = lambda row, seed=seed, out=one.out: Run(
        row, row, seed, out / f"{row}-{seed}", []
      )
      for row in rows:
        ours = run_of("mmgrec")
        run = ours if row == EMBEDDING else run_of(row)
        again = run_of(row, out=one.out / "rescored")
        planned.append(Rescored(run, ours, again, one.settings.get("data")))
  needed = {str(r.folder): r for one in planned for r in (one.run, one.ours)}
  if missing := [name for name, run in needed.items() if not run.finished]:
    raise UserError(
      f"{missing[0]}: not finished, as {len(missing)} of {len(needed)} runs;"
      " experiments.table2 with the same --datasets, --seeds and --out makes"
      " them."
    )
  return planned


def search_of(run: Trained, ours: Trained) -> tuple[Search, list[str]]:
  """A run's vectors with the features and EASE of ours; the scores' names."""
  h = read_vectors(vectors_file(run), ours.data)
  vectors = Vectors(*map(jnp.asarray, h.values()))
  no_trie: Any = None
  found = rescoring.read_found(ours.folder)
  search = rescoring.read_mix(
    ours.folder, Search(None, vectors, no_trie), found, ours.data.n_items
  )
  return search, rescoring.names_of(found["mmgrec"])


def score_again(one: Rescored) -> None:
  """Writes results.json, weights in it, and per_user.npz."""
  ours = open_workdir(one.ours.folder, one.data)
  config, data = ours.config, ours.data
  search, names = search_of(open_workdir(one.run.folder, one.data), ours)
  ((_, results),) = compare_report.read_results([one.run], FIELDS)
  with parallel.enough_memory("re-scoring", parallel.ANOTHER_DEVICE):
    weights, ranker, search = rescoring.nearest_rescored(
      config, data, search, names
    )
    search = parallel.replicate(search)
    row, per_user = one.again.row, {}
    for split in ("valid", "test"):
      of_split = ranker_of(config, data, split, ranker)
      of_users = evaluate(
        of_split, search, data, split, config.evaluation.cutoffs
      )
      results[split] = {row: {k: float(v.mean()) for k, v in of_users.items()}}
      per_user |= {f"{split}/{row}/{k}": v for k, v in of_users.items()}
  results |= {"weights": weights, "seconds_per_1000_users": {}}
  one.again.folder.mkdir(parents=True, exist_ok=True)
  write_arrays(one.again.folder / "per_user.npz", per_user)
  write_text(one.again.folder / "results.json", json.dumps(results, indent=1))


def write_all(planned: Sequence[Rescored], out: Path) -> None:
  """rescored.json, rescored.md (printed too), rescored-<data set>.png."""
  summaries, texts = {}, ["# Vectors re-scored, beside MMGRec's beams\n"]
  by_set: dict[str, list[Rescored]] = {}
  for one in planned:
    by_set.setdefault(one.ours.folder.parent.name, []).append(one)
  for name, of_set in by_set.items():
    ours = list({one.ours.folder: one.ours for one in of_set}.values())
    rows = {
      **compare_report.by_row([one.again for one in of_set]),
      "mmgrec": compare_report.by_row(ours)["mmgrec"],
    }
    summaries[name] = compare_report.summary_of(rows)
    text = compare_report.to_markdown(summaries[name], costs=False)
    texts.append(f"## {name}\n\n{text}")
  runs.write(out, "rescored", {"datasets": summaries}, "\n".join(texts))
  for name, summary in summaries.items():
    report.draw(compare_report.plot, summary, out / f"rescored-{name}.png")


def main(argv: Sequence[str]) -> None:
  given = parser().parse_args(argv)
  try:
    planned = plan(given)
    for one in tqdm(planned, desc="re-scoring", unit="run"):
      if not one.finished:
        score_again(one)
    write_all(planned, given.out)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
  runs.as_command(main)
