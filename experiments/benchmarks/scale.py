"""Catalogues of 1 and 10 million items: what fits, and that it really runs.

Command: python -m experiments.benchmarks.scale --out=runs/benchmarks

- in shape: 10 million items, 1 million users, on 8 fake CPU devices. Programs
  are compiled, not run: bytes of each device, by config.model_shards.
- stages: 1 million items, 200,000 users: every stage of a run with
  config.embed.fan_out, a few steps each, on one device. Rec-IDs and
  recommended lists are checked.
- Rec-IDs: 10 million items' semantic tokens, Rec-IDs and trie, really made.

Each in a process of its own, whose peak memory then means something. Seconds
are of one run, compiling included, by the wall clock: on a loaded machine they
say only that it ends.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments import runs
from experiments.benchmarks import report
from mmgrec_jax.errors import UserError

# Part -> the module and its function.
PARTS = {
  "in shape": ("scale_in_shape", "measure"),
  "stages": ("scale_for_real", "run_stages"),
  "Rec-IDs": ("scale_for_real", "assign"),
}
DEVICES = {"in shape": 8}  # fake ones; elsewhere 1


def run_part(name: str, small: bool) -> dict[str, Any]:
  """Runs a part in a fresh process and reads what it found."""
  print(f"[{name}]", flush=True)
  environment = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": str(DEVICES.get(name, 1)),
    "NPROC": "8",  # more devices than cores deadlock with fewer XLA threads
  }
  if small:  # What is compiled runs for moments.
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
  with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "part.json"
    command = [sys.executable, "-m", "experiments.benchmarks.scale"]
    child = subprocess.run(
      [*command, f"--part={name}", f"--out={path}"] + ["--small"] * small,
      env=environment,
    )
    if child.returncode:
      sys.exit(child.returncode)  # it has said why
    return json.loads(path.read_text())


def in_this_process(name: str, small: bool, path: Path) -> None:
  """Runs a part and writes what it found."""
  module, function = PARTS[name]
  module = importlib.import_module(f"experiments.benchmarks.{module}")
  found = getattr(module, function)(small)
  path.write_text(json.dumps(found | {"load": list(os.getloadavg())}))


def print_memory(found: Mapping[str, Any]) -> None:
  shards = [str(n) for n in found["shards"]]
  print(
    f"\nGiB of each of {found['devices']} devices by config.model_shards:"
    f" {found['n_items']:,} items, {found['n_users']:,} users"
  )
  print(f"{'':20}" + "".join(f"{n:>9}" for n in shards))
  for program, bytes_ in found["bytes_by_shards"].items():
    gib = "".join(f"{bytes_[n] / 2**30:9.3g}" for n in shards)
    print(f"{program:20}{gib}")


def print_parts(found: Mapping[str, Any]) -> None:
  """One after another: seconds, the peak so far; then steps and faults."""
  print(f"\n{found['items']:,} items")
  print(f"{'':40}{'seconds':>9}{'peak, GiB':>11}")
  for part, cost in found["parts"].items():
    print(f"{part:40}{cost['seconds']:9.1f}{cost['peak_gib']:11.2f}")
  for stage, step in found.get("steps", {}).items():
    print(
      f"{stage}: compiled in {step['compiling_seconds']:.1f} s, a step takes"
      f" {step['step_seconds']:.2f} s and {step['gib']:.2f} GiB"
    )
  for fault, n in found.get("faults", {}).items():
    print(f"recommended items or Rec-IDs at fault, {fault}: {n}")


def plot(merged: dict[str, Any], path: Path) -> None:
  """A line for each program: GiB of a device by number of shards."""
  import matplotlib.pyplot as plt

  found = merged["in shape"]
  figure, axes = plt.subplots(figsize=(7, 4.5))
  for program, bytes_ in found["bytes_by_shards"].items():
    gib = [bytes_[str(n)] / 2**30 for n in found["shards"]]
    axes.plot(found["shards"], gib, marker="o", label=program)
  axes.set_xscale("log", base=2)
  axes.set_xticks(found["shards"], found["shards"])
  axes.set_yscale("log")
  axes.set_xlabel("config.model_shards")
  axes.set_ylabel(f"GiB of each device, {found['n_items']:,} items")
  axes.legend()
  figure.savefig(path, dpi=150, bbox_inches="tight")
  plt.close(figure)


def main() -> None:
  parser = argparse.ArgumentParser(prog="experiments.benchmarks.scale")
  parser.add_argument("--out", type=Path, required=True, help="results' folder")
  parser.add_argument("--small", action="store_true", help="tiny, to try it")
  parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
  flags = parser.parse_args()
  try:
    if flags.part:
      in_this_process(flags.part, flags.small, flags.out)
      return
    runs.make_folder(flags.out)
  except UserError as error:
    sys.exit(str(error))
  merged: dict[str, Any] = {"small": flags.small}
  merged |= {name: run_part(name, flags.small) for name in PARTS}
  path = flags.out / "scale.json"
  path.write_text(json.dumps(merged, indent=1) + "\n")
  print_memory(merged["in shape"])
  print_parts(merged["stages"])
  print_parts(merged["Rec-IDs"])
  print(f"Results are in {path}")
  report.draw(plot, merged, flags.out / "scale.png")


if __name__ == "__main__":
  main()
