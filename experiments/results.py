"""README's tables of results, from what the experiments measured.

Command: python -m experiments.results --out=runs/tables

OUT is that of the tables or of the benchmarks. What table2.json to table5.json,
rescored.json, figure4.json and coldstart.json in it say of a data set, and
generate.json, figure5.json, … of a backend (`cpu`, `gpu`), takes the place of
what docs/results has of it; then README's tables are written anew from all that
is there, each between the lines `<!-- NAME PART -->` and `<!-- end -->`. PART
is the data set or backend; NAME is a file's, or `ablations`: the beams of
tables 3 to 5. The pictures of figures 4 and 5 are kept, too.
Exit codes: 0 done, 2 a table cannot be written.
"""

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import coldstart, compare_report, comparisons, figure4, runs
from experiments.benchmarks import report
from mmgrec_jax.errors import UserError
from mmgrec_jax.files import AGAIN, read_json

README = Path("README.md")
KEPT = Path("docs/results")
ABLATIONS = ("table3", "table4", "table5")
BENCHMARKS = ("generate", "figure5", "train_step", "graph", "evaluate")
SOURCES = (
  "table2",
  *ABLATIONS,
  "rescored",
  "figure4",
  "coldstart",
  *BENCHMARKS,
)
# Source -> data set or backend -> what its JSON file holds of it.
Results = Mapping[str, Mapping[str, Any]]
_BLOCK = re.compile(r"(<!-- (\w+) (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def read_all(folder: Path) -> dict[str, dict[str, Any]]:
  found = {}
  for source in SOURCES:
    file = folder / f"{source}.json"
    if file.is_file():
      of_source: dict[str, Any] = read_json(file, AGAIN)
      if "headline" in of_source:
        of_source = _by_backend(file, of_source)
      found[source] = of_source.get("datasets", of_source)
      _check_finished(file, found[source])
  return found


def _check_finished(file: Path, by_part: Mapping[str, Any]) -> None:
  """Raises UserError where a mean is of fewer seeds than were asked for."""
  for part, found in by_part.items():
    if missing := found.get("not_finished"):
      raise UserError(
        f"{file}: of {part} {', '.join(missing)} did not finish; give the"
        " command that made it again."
      )


def replaced(
  source: str, kept: Mapping[str, Any], new: Mapping[str, Any]
) -> dict[str, Any]:
  """By part, what is new in the place of what was kept.

  Raises:
    UserError: rows of a table would be gone.
  """
  for part in kept.keys() & new.keys():
    rows = [one.get("systems", {}) for one in (kept[part], new[part])]
    if gone := [row for row in rows[0] if row not in rows[1]]:
      raise UserError(
        f"{source} of {part} in --out has no {', '.join(gone)}, which {KEPT}"
        f" has; give experiments.{source} all of its --models."
      )
  return {**kept, **new}


def _by_backend(file: Path, merged: dict[str, Any]) -> dict[str, Any]:
  """What a benchmark left, without each of its repetitions."""
  if merged["small"]:
    raise UserError(f"{file} was made with --small: its times mean nothing.")
  del merged["repetitions"]
  return {merged["machine"][merged["headline"]]["backend"]: merged}


def fill_in(text: str, results: Results) -> str:
  """README with all its tables written anew.

  Raises:
    UserError: a table is of something that was not measured.
  """

  def fill(block: re.Match) -> str:
    start, name, part, end = block.groups()
    return f"{start}{table_of(name, part, results)}{end}"

  return _BLOCK.sub(fill, text)


def table_of(name: str, part: str, results: Results) -> str:
  """A table's lines; `part` is a data set or a backend."""
  sources = ABLATIONS if name == "ablations" else (name,)
  found = []
  for source in sources:
    if part not in results.get(source, {}):
      module = f"benchmarks.{source}" if source in BENCHMARKS else source
      raise UserError(
        f"{README} has a table {name!r} of {part!r}, but {KEPT} has no"
        f" {source} of it; run experiments.{module} on it and give its --out."
      )
    found.append(results[source][part])
  if name in BENCHMARKS:
    return report.to_markdown(found[0])
  if name == "coldstart":
    return coldstart.to_markdown(part, found[0])
  if name == "figure4":
    return figure4.to_markdown(found[0])
  summary = beams_alone(found) if name == "ablations" else found[0]
  return compare_report.to_markdown(summary, costs=False)


def beams_alone(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """One summary of the rows that are beams before they are re-scored.

  Raises:
    UserError: what the tables share is not the same in all of them.
  """
  systems, tests = {}, []
  for summary in summaries:
    beams = {
      row: found
      for row, found in summary["systems"].items()
      if row.endswith("generator")
    }
    for row in beams.keys() & systems.keys():
      if beams[row]["test"] != systems[row]["test"]:
        raise UserError(
          f"Tables 3 to 5 of {summary['dataset']['name']} have different"
          f" {row!r}; make them anew with one --out and as many --seeds."
        )
    systems |= beams
    tests += [t for t in summary["tests"] if t["system"] in systems]
  tests.sort(key=lambda test: comparisons.PAPERS_METRICS.index(test["metric"]))
  return {
    "dataset": summaries[0]["dataset"],
    "systems": systems,
    "tests": tests,
  }


def keep_pictures(found: Results, out: Path) -> None:
  """Those of figures 4 and 5; a benchmark's has no backend in its name."""
  made = {
    f"figure4-{name}": f"figure4-{name}" for name in found.get("figure4", ())
  }
  made |= {
    f"figure5-{backend}": "figure5" for backend in found.get("figure5", ())
  }
  for kept, picture in made.items():
    if (out / f"{picture}.png").is_file():
      shutil.copyfile(out / f"{picture}.png", KEPT / f"{kept}.png")


def main(argv: Sequence[str]) -> None:
  given = runs.new_parser("results", __doc__).parse_args(argv)
  try:
    found = read_all(given.out)
    if not found:
      raise UserError(
        f"--out={given.out}: none of {', '.join(SOURCES)} has left its .json"
        " there."
      )
    kept = read_all(KEPT)
    for source, of_sets in found.items():
      kept[source] = replaced(source, kept.get(source, {}), of_sets)
    text = fill_in(README.read_text(encoding="utf-8"), kept)
    KEPT.mkdir(parents=True, exist_ok=True)
    for source in found:
      as_json = json.dumps(kept[source], indent=1) + "\n"
      (KEPT / f"{source}.json").write_text(as_json, encoding="utf-8")
    keep_pictures(found, given.out)
    README.write_text(text, encoding="utf-8")
  except (UserError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
  print(f"{README}'s tables are from {', '.join(found)}.")


if __name__ == "__main__":
  runs.as_command(main)
