"""Three commands from a person's own files to recommendations."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

OWN = Path(__file__).parents[2] / "configs" / "own.py"
SMALL = {
  "width": 16,
  "model.epochs": 3,
  "rqvae.epochs": 2,
  "rqvae.steps_per_epoch": 10,
  "rqvae.codebook_size": 8,
  "recid.ignore_health": True,
  "generator.epochs": 1,
}


def command(name, *flags, cwd):
  done = subprocess.run(
    [sys.executable, "-m", f"mmgrec_jax.{name}", *flags],
    capture_output=True,
    text=True,
    cwd=cwd,
    env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONUTF8": "1"},
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_from_own_files_to_recommendations(tmp_path):
  rng = np.random.default_rng(0)
  films = [f'film "{n}", é🎬' for n in range(25)]
  with (tmp_path / "clicks.csv").open("w", encoding="utf-8") as file:
    writer = csv.writer(file)
    writer.writerow(["visitor", "film"])
    for user in range(30):
      taste = rng.choice(films[user % 2 :: 2], 8, replace=False)
      writer.writerows([f"user {user}", film] for film in taste)
  with (tmp_path / "films.csv").open("w", encoding="utf-8") as file:
    writer = csv.writer(file)
    writer.writerow(["film", "title"])
    writer.writerows([f, f"{f} of kind {n % 2}"] for n, f in enumerate(films))

  command(
    "prepare", "--interactions=clicks.csv", "--user_column=visitor",
    "--item_column=film", "--items=films.csv", "--text=title",
    "--out=data/films", cwd=tmp_path,
  )  # fmt: skip
  settings = [f"--config.{key}={value}" for key, value in SMALL.items()]
  command(
    "main", f"--config={OWN}", "--config.data=data/films", *settings,
    cwd=tmp_path,
  )  # fmt: skip
  assert (tmp_path / "runs" / "own" / "report.html").is_file()
  out = command(
    "recommend", "--workdir=runs/own", "--users=user 3", "--k=5",
    "--format=json", cwd=tmp_path,
  )  # fmt: skip
  found = json.loads(out)
  assert found["user"] == "user 3"
  names = [one["item"] for one in found["items"]]
  assert len(set(names)) == 5 and set(names) <= set(films)
  assert all(one["title"].startswith(one["item"]) for one in found["items"])
