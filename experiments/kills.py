"""A run killed at random moments, beside one that is left alone.

Command: python -m experiments.kills --kills=20 --out=runs/kills

The same command, with SIGKILL to its process after a random time, again and
again; a killed run that ends before the next kill is compared and another one
begun. In the end parameters, Rec-IDs, metrics and the scores in the log must be
equal to the bit: on one device, so JAX is given one. --config and
--config.KEY=VALUE choose the run; the default is the synthetic set.

OUT gets kills.json and kills.md. Exit codes: 0 all equal, 1 not, 2 wrong
settings, 130 stopped; the same command begins anew.
"""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import planning, runs
from experiments.compare_report import lines_of
from mmgrec_jax.arrays import read_arrays
from mmgrec_jax.errors import UserError
from mmgrec_jax.files import AGAIN, read_json
from mmgrec_jax.serving.trained import open_workdir, reload_generator
from mmgrec_jax.training.writer import read_log

ONE_DEVICE = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}


def run(folder: Path, arguments: list[str], seconds: float | None) -> bool:
  """Whether it ended by itself within so many seconds; None: as many as it
  takes.

  Raises:
    UserError: it failed.
  """
  command = runs.Run("", "", 0, folder, arguments).command
  with (folder.parent / f"{folder.name}.log").open("a") as log:
    process = subprocess.Popen(
      command, stdout=log, stderr=log, env={**os.environ, **ONE_DEVICE}
    )
    try:
      code = process.wait(seconds)
    except subprocess.TimeoutExpired:
      return False
    finally:  # at the time, or because we are being stopped
      process.kill()
      process.wait()
  if code:
    raise UserError(f"{folder}: the run failed, see {log.name}.")
  return True


def where(folder: Path) -> str:
  """The last epoch that is on record."""
  lines = read_log(folder / "metrics.jsonl")
  if not lines:
    return "before the first epoch"
  return f"{lines[-1]['stage']}, epoch {lines[-1]['epoch'] + 1}"


def epochs(log: Path) -> dict[str, float]:
  """The score that is logged of each epoch; 0 where there was none.

  Losses are means over what was trained of an epoch since the last start.
  """
  return {
    f"{line['stage']} {line['epoch']}": line.get("valid", 0.0)
    for line in read_log(log)
  }


def artefacts(folder: Path) -> dict[str, Any]:
  """What must be equal, by name: arrays and scores."""
  results = read_json(folder / "results.json", AGAIN)
  out = {
    split: results[split] for split in ("valid", "test") if split in results
  }
  for name in ("vectors.npz", "embed/vectors.npz", "recids.npz"):
    if (folder / name).is_file():
      out[name] = read_arrays(folder / name, AGAIN)
  out["metrics.jsonl"] = epochs(folder / "metrics.jsonl")
  trained = open_workdir(folder)
  if "generator" in trained.config:
    out["generator's parameters"] = reload_generator(trained).search.params
  return out


def differences(a: dict[str, Any], b: dict[str, Any]) -> dict[str, float]:
  """The largest difference of each artefact; 0 = equal to the bit."""

  def largest(x, y) -> float:
    if jax.tree.structure(x) != jax.tree.structure(y):
      return np.inf
    gaps = jax.tree.map(
      lambda p, q: float(np.abs(np.subtract(p, q, dtype=np.float64)).max()),
      x,
      y,
    )
    # NumPy's, for which a NaN is the largest.
    return float(np.max(jax.tree.leaves(gaps), initial=0.0))

  return {name: largest(a[name], b[name]) for name in a}


def kill_and_compare(out: Path, arguments: list[str], kills: int, seed: int):
  """Every kill, and every comparison of a finished run."""
  runs.make_folder(out)
  whole, broken = out / "whole", out / "killed"
  for folder in (whole, broken):
    shutil.rmtree(folder, ignore_errors=True)
  began = time.monotonic()
  run(whole, arguments, None)
  longest = (time.monotonic() - began) / 2
  expected, draw = artefacts(whole), random.Random(seed)
  killed, compared = [], []
  while True:
    left = kills - len(killed)
    seconds = draw.uniform(0, longest) if left else None
    if run(broken, arguments, seconds):
      compared.append(differences(expected, artefacts(broken)))
      if not left:
        return killed, compared
      shutil.rmtree(broken)
    else:
      killed.append((round(seconds or 0, 2), where(broken)))
      print(f"kill {len(killed)} after {killed[-1][0]} s: {killed[-1][1]}")


def to_markdown(killed: Sequence, compared: Sequence[dict[str, float]]) -> str:
  kills = [["kill", "seconds after the start", "last on record"]]
  kills += [
    [str(n), f"{seconds:.2f}", place]
    for n, (seconds, place) in enumerate(killed, start=1)
  ]
  names = list(compared[0])
  table = [
    ["largest difference of", *(f"run {n + 1}" for n in range(len(compared)))]
  ]
  table += [[name, *(f"{one[name]:g}" for one in compared)] for name in names]
  equal = all(gap == 0 for one in compared for gap in one.values())
  return "\n".join(
    [
      "# Killed, and gone on",
      "",
      *lines_of(kills),
      "",
      "Against the run that was left alone (0 = equal to the bit):",
      "",
      *lines_of(table),
      "",
      "All equal." if equal else "NOT equal.",
      "",
    ]
  )


def main(argv: Sequence[str]) -> None:
  parser = runs.new_parser("kills", __doc__)
  parser.add_argument("--config", default="configs/synthetic.py")
  parser.add_argument("--kills", type=int, default=20)
  parser.add_argument("--seed", type=int, default=0, help="of the moments")
  given, settings = runs.parse(parser, argv)
  settings = {"train.checkpoint_seconds": "0.5", **settings}
  arguments = [f"--config={given.config}"]
  arguments += [f"--config.{key}={value}" for key, value in settings.items()]
  try:
    if given.kills < 0:
      raise UserError(f"--kills={given.kills}: how many there are, 0 or more.")
    planning.read_config(arguments)
    killed, compared = kill_and_compare(
      given.out, arguments, given.kills, given.seed
    )
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
  summary = {"kills": killed, "differences": compared}
  runs.write(given.out, "kills", summary, to_markdown(killed, compared))
  if any(gap for one in compared for gap in one.values()):
    sys.exit(1)


if __name__ == "__main__":
  runs.as_command(main, then="begins anew")
