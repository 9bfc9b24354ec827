"""The paper's Tables 2 to 5 again, on data that is at hand.

Command: python -m experiments.table2 --datasets=lfm2k=DIR,ml100k=DIR \\
           --seeds=5 --out=runs/tables

Tables 3, 4 and 5 are experiments.table3 to table5. Each data set is a config
file's name, configs/NAME.py, and where its data is (left out, the file says).
Runs are in OUT/<data set>/<row>-<seed>, seeds 0 to N-1, made as by
experiments.compare: the same command goes on where it was, and tables with the
same --out share mmgrec's runs.

OUT gets tableN.json, tableN.md and a chart for each data set. Beside our
numbers stand those that the paper prints for its own data, and what is not as
in the paper. Exit codes: 0 done, 1 some run failed, 2 wrong input or settings,
130 stopped.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments import compare_report, paper, planning, runs
from experiments.benchmarks import report
from experiments.planning import DISTILLED, PAPER
from experiments.runs import Run, Variant
from mmgrec_jax import config as configs
from mmgrec_jax.errors import UserError

Facts = Mapping[str, Any]


class Row(NamedTuple):
  """What is run, and what the paper's table calls it."""

  variant: Variant
  paper: str | None


# Rows of Table 2 that the paper has too; of ours, it lacks the others.
_SYSTEMS = {
  "graphsage": "GraphSAGE",
  "ngcf": "NGCF",
  "gat": "GAT",
  "lightgcn": "LightGCN",
  "vbpr": "VBPR",
  "mmgcn": "MMGCN",
  "grcn": "GRCN",
  "lattice": "LATTICE",
  "invrl": "InvRL",
  "lightgt": "LightGT",
}


def _mmgrec(name: str, settings: Mapping[str, str]) -> Row:
  return Row(Variant("mmgrec", settings), name)


# How bad their Rec-IDs are is what these rows are to show.
_ANY_HEALTH = {"recid.ignore_health": "True"}

TABLES: dict[int, dict[str, Row]] = {
  2: {
    **{
      system: Row(Variant(system), _SYSTEMS.get(system))
      for system in configs.SYSTEMS
    },
    PAPER: Row(Variant(PAPER), "MMGRec"),
    DISTILLED: Row(Variant(DISTILLED), "MMGRec"),
    "mmgrec": Row(Variant("mmgrec"), "MMGRec"),
  },
  3: {
    "id-without": _mmgrec(
      "ID w/o", {"recid.method": "features", **_ANY_HEALTH}
    ),
    "emb-without": _mmgrec("Emb w/o", {"generator.item_embedding": "learned"}),
    "mmgrec": _mmgrec("Ours", {}),
  },
  4: {
    "hk-means": _mmgrec("HK-Means", {"recid.method": "hkmeans", **_ANY_HEALTH}),
    "random": _mmgrec("Random", {"recid.last_token": "random"}),
    "mmgrec": _mmgrec("Ours", {}),
  },
  5: {
    "pe-without": _mmgrec("w/o PE", {"generator.encoder": "none"}),
    "pe-default": _mmgrec("Default PE", {"generator.encoder": "sinusoidal"}),
    "mmgrec": _mmgrec("Ours", {}),
  },
}


def parser(number: int) -> argparse.ArgumentParser:
  out = runs.new_parser(f"table{number}", __doc__)
  add_data_sets(out)
  runs.add_models(
    out,
    list(TABLES[number]),
    "; Table 2's 'paper', up to 1,000 slow epochs of one seed, is not in all:"
    " all,paper",
  )
  return out


def add_data_sets(out: argparse.ArgumentParser) -> None:
  """--datasets, for `data_sets`, and --seeds, for `seeds_of`."""
  out.add_argument("--datasets", required=True, help="NAME=DIR,NAME=DIR,…")
  out.add_argument("--seeds", type=int, default=5, help="how many; default 5")


class DataSet(NamedTuple):
  """One of --datasets: its config file, settings with its data, its runs."""

  name: str
  file: str
  settings: dict[str, str]
  out: Path


def data_sets(
  given: argparse.Namespace, settings: Mapping[str, str]
) -> list[DataSet]:
  """Those of a command with --datasets and --out.

  Raises:
    UserError: there is no such config file, or one is there twice, or has two
      folders.
  """
  chosen = {}
  for one in given.datasets.split(","):
    name, _, folder = one.partition("=")
    file = Path("configs") / f"{name}.py"
    if not file.is_file():
      there = sorted(path.stem for path in Path("configs").glob("*.py"))
      raise UserError(
        f"--datasets: there is no {file}, only those of {', '.join(there)}."
      )
    if name in chosen:
      raise UserError(
        f"--datasets: {name} is there twice; give the other a config file of"
        f" its own, a copy of {file}."
      )
    if folder and "data" in settings:
      raise UserError(
        f"--datasets={name}={folder} and --config.data={settings['data']}: give"
        " one of them."
      )
    # Without a folder, the file says where the data is.
    own = {**settings, "data": folder} if folder else dict(settings)
    chosen[name] = DataSet(name, str(file), own, given.out / name)
  return list(chosen.values())


def seeds_of(number: int) -> range:
  """So many, from 0.

  Raises:
    UserError: none.
  """
  if number < 1:
    raise UserError(f"--seeds={number}: how many there are, 1 or more.")
  return range(number)


def check_not_varied(
  settings: Mapping[str, str], varied: Iterable[str], by: str
) -> None:
  """Raises UserError where a setting is given that `by` varies."""
  for key in varied:
    if key in settings:
      raise UserError(f"--config.{key}: the {by} varies it itself.")


def main(number: int, argv: Sequence[str]) -> None:
  """Runs what is missing of a table and writes it."""
  given, settings = runs.parse(parser(number), argv)

  def plan() -> list[Run]:
    every = ",".join(row for row in TABLES[number] if row != PAPER)
    names = ",".join(
      every if name == "all" else name for name in given.models.split(",")
    )
    rows = runs.chosen_rows(names, list(TABLES[number]))
    varied = {
      key for row in TABLES[number].values() for key in row.variant.settings
    }
    check_not_varied(settings, varied - _ANY_HEALTH.keys(), "table")
    seeds = seeds_of(given.seeds)
    variants = {row: TABLES[number][row].variant for row in rows}
    planned = []
    for one in data_sets(given, settings):
      planned += planning.plan_runs(
        one.file, one.settings, variants, seeds, one.out
      )
    return planned

  runs.carry_out(
    plan, lambda planned: write_all(number, planned, given.out), given.out
  )


def write_all(number: int, planned: Sequence[Run], out: Path) -> None:
  """tableN.json, tableN.md (printed too), tableN-<data set>.png."""
  summaries, texts = {}, [f"# Table {number} of the paper, with our data\n"]
  done = [run.folder.parent.name for run in planned if run.finished]
  for name in dict.fromkeys(done):
    of_set = [run for run in planned if run.folder.parent.name == name]
    summary = compare_report.summarise(of_set)
    summary["differs"] = differs(number, of_set, summary["dataset"])
    summary["settings_not_the_papers"] = changed_settings(of_set)
    summaries[name] = summary
    texts.append(f"## {name}\n\n{to_markdown(number, summary)}")
  as_data = {
    "paper": {
      row: {name: score._asdict() for name, score in scores.items()}
      for row, scores in paper.TABLES[number].items()
    },
    "datasets": summaries,
  }
  runs.write(out, f"table{number}", as_data, "\n".join(texts))
  print(f"The table is in {out / f'table{number}.md'} and .json")
  for name, summary in summaries.items():
    plot = compare_report.plot
    report.draw(plot, summary, out / f"table{number}-{name}.png")


def differs(number: int, of_set: Sequence[Run], facts: Facts) -> dict[str, str]:
  """Row -> what is not as in the paper, in a few words."""
  same = the_papers(facts)
  data = [] if same else ["data"]
  if not same or facts["modalities"] != same.modalities:
    data.append("features")
  of_row = lambda row: [run for run in of_set if run.row == row]
  changed = {
    "mmgrec": len(changed_settings(of_set)),
    PAPER: 0,
    DISTILLED: len(changed_settings(of_row(DISTILLED))),
  }
  out = {}
  for row, (variant, name) in TABLES[number].items():
    settings = "settings (it prints none)"
    if variant.system in changed:
      count = changed[variant.system]
      settings = f"{count} settings" if count else ""
    parts = [*data, settings] if name else ["not in the paper"]
    out[row] = ", ".join(filter(None, parts))
  return out


def the_papers(facts: Facts) -> paper.DataSet | None:
  """The paper's data set with the same counts, if it is one of them."""
  counts = [facts[name] for name in ("users", "items", "interactions")]
  for one in paper.DATA_SETS.values():
    if counts == [one.users, one.items, one.interactions]:
      return one
  return None


def changed_settings(of_set: Sequence[Run]) -> list[str]:
  """MMGRec's settings that the preset `paper` has otherwise.

  But for the data, the seed, and what a row of the table is about. Of MMGRec
  as it is, where there is such a run.
  """
  of_mmgrec = [
    run for run in of_set if run.system == "mmgrec" and run.row != PAPER
  ]
  if not of_mmgrec:
    return []
  run = min(of_mmgrec, key=lambda run: (run.row == DISTILLED, len(run.own)))
  skipped = {"name", "data", "seed", *run.own}

  def compared(arguments: list[str]) -> dict[str, Any]:
    values = configs.flatten(planning.read_config(arguments).to_dict())
    return {
      key: value
      for key, value in values
      if key not in skipped and not key.startswith("synthetic.")
    }

  # What was given may be no setting of the preset: it is read without.
  file = run.arguments[0].partition(":")[0]
  theirs = compared([f"{file}{planning.colon(PAPER)}"])
  return configs.differences(theirs, compared(run.arguments))


def to_markdown(number: int, summary: Mapping[str, Any]) -> str:
  """Our table with the paper's columns, the data, the settings."""
  rows, printed = TABLES[number], paper.TABLES[number]
  known = {row: name for row, (_, name) in rows.items() if name}
  columns = {"in the paper": known}
  for data_set in paper.DATA_SETS:
    columns[f"{data_set} R / N@10"] = {
      row: "{:.4f} / {:.4f}".format(*printed[name][data_set])
      for row, name in known.items()
    }
  columns["differs from the paper by"] = summary["differs"]
  lines = [compare_report.to_markdown(summary, columns)]
  if number == 2:
    lines += [*_claims(), ""]
  lines += [*_data_table(summary["dataset"]), ""]
  lines += [f"Fingerprint of the data: {summary['dataset']['fingerprint']}", ""]
  if summary["settings_not_the_papers"]:
    lines += ["MMGRec's settings: the preset paper's (there), these (now):", ""]
    lines += [f"- {one}" for one in summary["settings_not_the_papers"]]
    lines.append("")
  return "\n".join(lines)


def _claims() -> list[str]:
  """What the paper's own last lines say."""
  table = [["MMGRec over LightGT, in the paper", "Recall@10", "NDCG@10"]]
  for name in paper.DATA_SETS:
    pairs = zip(paper.IMPROVEMENT[name], paper.P_VALUE[name], strict=True)
    table.append([name, *(f"+{gain} %, p = {p:.2g}" for gain, p in pairs)])
  return compare_report.lines_of(table)


def _data_table(facts: Facts) -> list[str]:
  """Ours as a row of the paper's Table 1."""
  rows = {
    facts["name"]: [facts[n] for n in ("users", "items", "interactions")]
    + [facts["modalities"]]
  }
  for name, one in paper.DATA_SETS.items():
    rows[f"{name} (paper)"] = list(one)
  table = [["data", "users", "items", "interactions", "density", "features"]]
  for name, (users, items, interactions, modalities) in rows.items():
    table.append(
      [
        name,
        *(f"{count:,}" for count in (users, items, interactions)),
        f"{interactions / users / items:.2e}",
        ", ".join(f"{m} {width}" for m, width in modalities.items()),
      ]
    )
  return compare_report.lines_of(table)
