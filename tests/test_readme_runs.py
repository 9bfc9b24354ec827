"""README's commands and its Python, run as written on a small data set."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from readme import BLOCKS, ROOT, TEXT, as_python_m, commands, written

from mmgrec_jax.data.folder import load_dataset

PREPARE = written("prepare", "clicks.csv", "posters.npy")
TRAIN = written("configs/own.py", "data/films")
OF_USERS = written("runs/ml100k", "--users=")
OF_FILE = written("runs/ml100k", "--users_file=")
OF_HISTORY = written("runs/ml100k", "--history=")
RECOMMEND = written("recommend", "runs/own")
EXTEND, RECOMMEND_NEW = written("extend"), written("recommend", "runs/films2")
EXPORT = written("mmgrec_jax.export")
INSPECT, RESULTS = (
  written("experiments.inspect"),
  written("experiments.results", "runs/tables"),
)
RUN_HERE = {
  PREPARE, TRAIN, OF_USERS, OF_FILE, OF_HISTORY, RECOMMEND, EXTEND,
  RECOMMEND_NEW, EXPORT, INSPECT, RESULTS,
}  # fmt: skip
# By a part of the command: why not.
NOT_RUN_HERE = {
  "--help": "end_to_end/test_cli.py and test_readme.py do",
  "configs/kwai.py": "the data is not public",
  "configs/lfm2k.py": "the data would have to be downloaded; takes hours",
  "configs/ml100k.py": "takes minutes; of the demo, a dry run below",
  "--interactions=FOLDER": "data/test_published.py reads each published form",
  "--image_model=": "downloads a model for texts and one for pictures",
  "lfm2k=DIR": "takes hours; experiments/test_paper_tables.py has small ones",
  "own=DIR": "as those of lfm2k",
  "experiments.kills": "takes an hour; experiments/test_kills.py kills once",
  "experiments.benchmarks": "needs PyTorch; experiments/ runs them --small",
  "results --out=runs/benchmarks": "experiments/test_readme_results.py does",
}
# As written but for these, training would take minutes.
TINY = {
  "width": 8,
  "model.epochs": 2,
  "rqvae.epochs": 1,
  "rqvae.codebook_size": 8,
  "recid.ignore_health": True,
  "generator.epochs": 1,
  "generator.history_length": 8,
  "generator.targets_per_history": 2,
  "generator.skip_sure": False,
  "evaluation.cutoffs": (10,),
  "evaluation.beam_width": 20,
  "evaluation.valid_beam_width": 20,
}
USERS = ["anna", "196", "22", *(f"visitor{n}" for n in range(37))]


def test_every_command_is_run_or_has_a_reason():
  for command in commands():
    reasons = [why for part, why in NOT_RUN_HERE.items() if part in command]
    assert (command in RUN_HERE) != (len(reasons) == 1), command
  parts = [part for part in NOT_RUN_HERE if part not in "".join(commands())]
  assert not parts


def write_files(films: int) -> None:
  """clicks.csv, films.csv, posters.npy, posters.txt in the working folder."""
  rng = np.random.default_rng(0)
  names = ["50", "181", "172", *(f"film{n}" for n in range(films - 3))]
  rows = [
    f"{user},{names[film]},{when}"
    for user in USERS
    for when, film in enumerate(rng.choice(films, 12, replace=False))
  ]
  Path("clicks.csv").write_text("\n".join(["visitor,film,when", *rows]))
  about = [f"{name},The {name},genre{n % 3}" for n, name in enumerate(names)]
  Path("films.csv").write_text("\n".join(["film,title,genres", *about]))
  np.save("posters.npy", rng.normal(size=(films, 16)).astype(np.float32))
  Path("posters.txt").write_text("\n".join(names))
  Path("users.txt").write_text("196\n22\n")


def run(command: str, instead: dict[str, str] | None = None) -> None:
  """A command of README in this process, which must end well."""
  for part, other in (instead or {}).items():
    assert part in command
    command = command.replace(part, other)
  _, _, module, *arguments = shlex.split(command)
  try:
    as_python_m(module, arguments)
  except SystemExit as done:
    assert not done.code, command


def run_main(command: str, *flags: str) -> str:
  """One of the main command, with TINY, as a process; what it prints."""
  tiny = [f"--config.{key}={value}" for key, value in TINY.items()]
  done = subprocess.run(
    [sys.executable, *shlex.split(command)[1:], *tiny, *flags],
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Where README's reader is who trained on data of their own.

  That run stands for those of other data sets, too.
  """
  folder = tmp_path_factory.mktemp("own")
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    write_files(films=30)
    run(PREPARE)
    Path("configs").symlink_to(ROOT / "configs")
    Path("data/ml100k").symlink_to("films")
    run_main(TRAIN)
  for name in ("ml100k", "lfm2k"):
    (folder / "runs" / name).symlink_to("own")
  return folder


@pytest.fixture
def here(folder, one_device, monkeypatch):
  monkeypatch.chdir(folder)


@pytest.mark.usefixtures("here")
def test_from_files_to_recommendations_and_on(capsys):
  assert load_dataset("data/films").n_items == 30
  run(RECOMMEND)
  assert "anna" in capsys.readouterr().out

  write_files(films=33)
  run(PREPARE, {"--out=data/films": "--out=data/films2"})
  run(EXTEND)
  assert "3 new items" in capsys.readouterr().out
  run(RECOMMEND_NEW)
  assert "anna" in capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_users_files_of_users_and_histories_are_answered(capsys):
  run(OF_USERS)
  assert re.findall(r"(?m)^\w.*", capsys.readouterr().out) == [
    "user 196", "user 22",
  ]  # fmt: skip
  run(OF_FILE)
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 2 and all(line.startswith("{") for line in lines)
  run(OF_HISTORY)
  assert "someone new" in capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_a_run_is_inspected():
  run(INSPECT)
  assert Path("runs/lfm2k/inspect.md").is_file()


@pytest.mark.usefixtures("here")
def test_the_tables_of_what_was_measured_are_written():
  text = (ROOT / "README.md").read_text(encoding="utf-8")
  Path("README.md").write_text(text.replace("| mmgrec ", "| other "))
  shutil.copytree(ROOT / "docs" / "results", "docs/results")
  shutil.copytree(ROOT / "docs" / "results", "runs/tables")
  run(RESULTS)
  assert Path("README.md").read_text().count("| mmgrec ") > 3


@pytest.mark.usefixtures("here")
def test_the_python_code_runs(small_data):
  save, ask, serve = [text for language, text in BLOCKS if language == "python"]
  names = {
    "user": small_data.user_E,
    "item": small_data.item_E,
    "text_vectors": np.ones((small_data.n_items, 3), np.float32),
    "user_names": small_data.user_ids,
    "item_names": small_data.item_ids,
  }
  exec(save, names)
  assert load_dataset("data/mine").n_items == small_data.n_items
  exec(ask, {})
  run(EXPORT)
  exec(serve, {})


@pytest.mark.usefixtures("here")
def test_a_dry_run_of_the_demo_names_every_stage_and_writes_nothing():
  makefile = (ROOT / "Makefile").read_text()
  config = (ROOT / "configs" / "ml100k.py").read_text()
  (demo,) = re.findall(r"(?m)^demo:.*\n\t\$\(BIN\)/(python -m .*)$", makefile)
  assert f"          {demo}\n" in config and "make demo, or" in config
  assert "make demo     # MovieLens-100K: trains" in TEXT
  (data,) = re.findall(r"-m mmgrec_jax\.data\.ml100k --out=(\S+)", makefile)
  assert f"demo: .venv/ready {data}/meta.json" in makefile
  assert Path(data).is_dir()  # the small one
  files = lambda: {p: p.stat().st_mtime_ns for p in Path().rglob("*")}
  before = files()
  lines = run_main(demo, "--dry_run").splitlines()
  assert files() == before
  stages = [line.partition(":")[0] for line in lines[-4:-1]]
  assert stages == ["lattice", "rqvae", "generate"]
  assert "100 steps of" in lines[-3] and ", 1 validations of" in lines[-3]
  assert lines[-1].endswith("Nothing was written.")
