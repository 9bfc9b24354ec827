"""Cold start: items and users that training has not seen.

Command: python -m experiments.coldstart --datasets=lfm2k=DIR,ml100k=DIR \\
           --share=0.1 --seeds=3 --out=runs/tables

A share of the items and of the users is held out, others with each seed.
MMGRec is trained on what is left and extended (mmgrec_jax.extend) to the whole.
Then it recommends
- new items to known users, all of whose interactions with these count, from
  the new items alone and from all, beside item-kNN on the features;
- known items to known users, with the new ones in the way and without;
- known items to new users, folded in from their training items, beside item-kNN
  and beside MMGRec trained on the whole.

Runs are in OUT/<data set>, as those of tables.py, which have mmgrec-<seed> in
common with these. OUT gets coldstart.json and coldstart.md. Settings are given
as for main. Exit codes: 0 done, 1 some run failed, 2 wrong input or settings,
130 stopped.
"""

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import compare_report, planning, runs, tables
from mmgrec_jax.errors import UserError
from mmgrec_jax.files import AGAIN, changed_file, read_json, sha256, write_text
from mmgrec_jax.startup import before_jax

METRICS = ("recall@10", "ndcg@10")
TRAINED = {
  "held-out": runs.Variant("mmgrec"),
  "held-out-itemknn": runs.Variant("itemknn"),
}
# Of a run: what tells it from another one in the same folder.
MARKS = ("config.json", "embed/vectors.npz", "recids.npz", "results.json")


def parser() -> argparse.ArgumentParser:
  out = runs.new_parser("coldstart", __doc__)
  tables.add_data_sets(out)
  out.add_argument(
    "--share", type=float, default=0.1, help="of items and users; default 0.1"
  )
  return out


def write_held(file: str, settings: Mapping[str, str], folder: Path,
               share: float, seed: int) -> None:  # fmt: skip
  """FOLDER/train, FOLDER/later: data without what is held out, and with it.

  Raises:
    UserError: the folder holds another data set or share.
  """
  from experiments.coldstart_parts import hold_out
  from mmgrec_jax.data.folder import save_dataset
  from mmgrec_jax.stages.load import load_data

  flags = [f"--config.{key}={value}" for key, value in settings.items()]
  data = load_data(planning.read_config([f"--config={file}", *flags]))
  about = {"fingerprint": data.fingerprint, "share": share, "seed": seed}
  note = folder / "held.json"
  if note.is_file():
    if read_json(note, AGAIN) != about:
      raise UserError(
        f"{folder} is of another data set or --share; give another --out, or"
        " delete it."
      )
    return
  held = hold_out(data, share, seed)
  runs.make_folder(folder)
  for name in ("train", "later"):
    if not (folder / name).exists():
      save_dataset(getattr(held, name), folder / name)
  note.write_text(json.dumps(about), encoding="utf-8")


def plan_one(file, settings, share, seeds, out) -> list[runs.Run]:
  """The runs of one data set; writes what they are trained on."""
  whole = {"mmgrec": runs.Variant("mmgrec")}
  planned = planning.plan_runs(file, settings, whole, seeds, out)
  for seed in seeds:
    folder = out / f"held-{seed}"
    write_held(file, settings, folder, share, seed)
    # What describes the synthetic set has gone into the folder.
    kept = {k: v for k, v in settings.items() if k.split(".")[0] != "synthetic"}
    without = {**kept, "data": str(folder / "train")}
    planned += planning.plan_runs(file, without, TRAINED, [seed], out)
  return planned


def score_one(out: Path, data: str, share: float, seed: int) -> dict[str, Any]:
  """Extends a seed's run where that is not done yet, and scores all.

  Args:
    data: where the whole data set is.
  """
  import jax

  from experiments import coldstart_parts as parts
  from mmgrec_jax.serving.trained import open_workdir

  # Finished runs may have moved, and so may their data.
  run = lambda row, data: open_workdir(out / f"{row}-{seed}", data)
  train, later = (out / f"held-{seed}" / name for name in ("train", "later"))
  known, whole = run("held-out", train), run("mmgrec", data)
  about = extend_once(known, later, out / f"extended-{seed}")
  boost = about["known_are_longer"]
  extend_once(known, later, out / f"boosted-{seed}", boost)
  held = parts.hold_out(whole.data, share, seed)
  of = parts.Runs(
    run("extended", later),
    run("boosted", later),
    run("held-out-itemknn", train),
    whole,
  )
  scores = parts.score_all(held, of)
  # The system lets a process have only so many programs, and the next seed's
  # runs need others.
  jax.clear_caches()
  return {"about": about, "scores": scores}


def extend_once(known: Any, later: Path, out: Path, boost: float = 1.0) -> Any:
  """What extended.json of `out` holds; made anew unless it is of this run."""
  from mmgrec_jax.data.folder import load_dataset
  from mmgrec_jax.serving.extending import extend

  note = out / "made_from.json"
  made_from = read_json(note, AGAIN) if note.is_file() else {}
  if changed_file(known.folder, made_from, MARKS):
    if out.is_dir():
      shutil.rmtree(out)
    extend(known, load_dataset(later), later, out, boost)
    digests = {name: sha256(known.folder / name) for name in MARKS}
    write_text(note, json.dumps(digests))
  return read_json(out / "extended.json", AGAIN)


def summarise(by_seed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """What is asked -> system -> metric -> mean, sd and values over seeds."""
  asked = by_seed[0]["scores"]
  return {
    "extended": [one["about"] for one in by_seed],
    "scores": {
      name: {
        system: {
          metric: compare_report.over_seeds(
            [one["scores"][name][system][metric] for one in by_seed]
          )
          for metric in METRICS
        }
        for system in systems
      }
      for name, systems in asked.items()
    },
  }


def to_markdown(name: str, summary: Mapping[str, Any]) -> str:
  """One table of all that is asked."""
  abouts = summary["extended"]
  by_seed = lambda key, form: ", ".join(f"{one[key]:{form}}" for one in abouts)
  facts = (
    f"{name}: {abouts[0]['new_items']:,} new items; by seed, new users:"
    f" {by_seed('new_users', ',')}; share of an unseen item's vector that"
    f" features explain: {by_seed('features_explain', '.2f')}; boost:"
    f" {by_seed('known_are_longer', '.2f')}"
  )
  table = [["recommended", "system", "Recall@10", "NDCG@10"]]
  for asked, systems in summary["scores"].items():
    for system, found in systems.items():
      cells = [compare_report.mean_and_sd(found[m], ".4f") for m in METRICS]
      table.append([asked, system, *cells])
      asked = ""  # once
  lines = [facts, "", *compare_report.lines_of(table), ""]
  return "\n".join([*lines, *compare_report.not_finished(summary)])


def write_all(planned: Sequence[runs.Run], share: float, out: Path) -> None:
  """coldstart.json and coldstart.md, printed too."""
  before_jax()
  summaries: dict[str, Any] = {}
  for folder in dict.fromkeys(run.folder.parent for run in planned):
    of_set = [run for run in planned if run.folder.parent == folder]
    whole = next(run for run in of_set if run.row == "mmgrec")
    data = planning.read_config(whole.arguments).data
    failed = {run.seed for run in of_set if not run.finished}
    seeds = sorted({run.seed for run in of_set} - failed)
    done = [score_one(folder, data, share, seed) for seed in seeds]
    if done:
      missing = {"not_finished": runs.unfinished(of_set)}
      summaries[folder.name] = summarise(done) | missing
  heading = "# Cold start: test, mean ± standard deviation over seeds\n"
  texts = [heading, *(to_markdown(*of_set) for of_set in summaries.items())]
  runs.write(out, "coldstart", summaries, "\n".join(texts))


def main(argv: Sequence[str]) -> None:
  given, settings = runs.parse(parser(), argv)

  def plan() -> list[runs.Run]:
    if not 0 < given.share < 1:
      raise UserError(f"--share={given.share}: between 0 and 1.")
    if "evaluation.exclude_validation" in settings:
      raise UserError(
        "--config.evaluation.exclude_validation: here validation items are"
        " candidates, always; leave it out."
      )
    planned = []
    seeds = tables.seeds_of(given.seeds)
    for one in tables.data_sets(given, settings):
      planned += plan_one(one.file, one.settings, given.share, seeds, one.out)
    return planned

  runs.carry_out(
    plan, lambda planned: write_all(planned, given.share, given.out), given.out
  )


if __name__ == "__main__":
  runs.as_command(main)
