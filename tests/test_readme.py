"""What README tells people to type is what the commands understand."""

import argparse
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags

import mmgrec_jax.main  # noqa: F401  its flags
from experiments import runs
from mmgrec_jax import export
from mmgrec_jax.data.folder import load_dataset

# Of ml_collections, when it reads a config file in this process.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
  """Those of the blocks and those in running text, without comments."""
  shell = "\n".join(text for language, text in BLOCKS if not language)
  joined = shell.replace("\\\n", " ")
  lines = [line.split(" #")[0].split(" >")[0] for line in joined.splitlines()]
  inline = re.findall(r"`(python -m [^`]+)`", re.sub(r"\n", " ", TEXT))
  found = [line.strip() for line in lines] + inline
  return sorted({line for line in found if line.startswith("python -m ")})


class Understood(Exception):
  """Every flag is one of the command's."""


@pytest.fixture
def only_parse(monkeypatch):
  """Commands end where their flags have been read."""
  parse = argparse.ArgumentParser.parse_known_args

  def parse_known(self, args=None, namespace=None):
    _, rest = parse(self, args, namespace)
    assert all(flag.startswith("--config.") for flag in rest), rest
    raise Understood

  def parse_all(self, args=None, namespace=None):
    _, rest = parse(self, args, namespace)
    assert not rest, rest
    raise Understood

  monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse_known)
  monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_all)
  monkeypatch.chdir(ROOT)


def as_python_m(module: str, arguments: list[str]) -> None:
  """`python -m module arguments`, in this process."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sys, "argv", [module, *arguments])
    for imported in (module, f"{module}.__main__"):  # by another test
      patch.delitem(sys.modules, imported, raising=False)
    runpy.run_module(module, run_name="__main__")


def check_main(arguments: list[str]) -> None:
  of_config = [flag for flag in arguments if flag.startswith("--config")]
  for flag in set(arguments) - {*of_config, "--help"}:
    name = flag.removeprefix("--").partition("=")[0]
    assert name in flags.FLAGS, flag
  if of_config:
    runs.read_config(of_config)


def test_there_are_commands():
  modules = {command.split()[2] for command in commands()}
  assert {
    "mmgrec_jax.main", "mmgrec_jax.prepare", "mmgrec_jax.recommend",
    "mmgrec_jax.export", "mmgrec_jax.extend", "experiments.table2",
    "experiments.kills",
  } <= modules  # fmt: skip


@pytest.mark.parametrize("command", commands())
def test_every_flag_is_one_of_the_commands(command, only_parse):
  _, _, module, *arguments = shlex.split(command)
  # Stands for flags that were shown before.
  arguments = [a for a in arguments if a != "…"]
  if module == "mmgrec_jax.main":
    check_main(arguments)
    return
  if "…" in command:
    arguments += ["--interactions=x", "--out=x"]
  with pytest.raises(SystemExit if "--help" in arguments else Understood):
    as_python_m(module, arguments)


def test_the_files_it_names_are_there():
  named = re.findall(r"`((?:configs|experiments|docs)/[\w./]+)`", TEXT)
  named += [f"mmgrec_jax/{n}" for n in re.findall(r"`(\w+/\w+\.py)`", TEXT)]
  there = lambda name: (
    (ROOT / name).exists() or (ROOT / name.removeprefix("mmgrec_jax/")).exists()
  )
  assert len(named) > 20
  assert {n for n in named if not there(n)} == {"mmgrec_jax/models/NAME.py"}


# As written but for these, training would take minutes.
TINY = {
  "width": 8,
  "model.epochs": 2,
  "rqvae.epochs": 1,
  "rqvae.codebook_size": 8,
  "recid.ignore_health": True,
  "generator.epochs": 1,
  "generator.skip_sure": False,
  "evaluation.cutoffs": (10,),
  "evaluation.beam_width": 20,
  "evaluation.valid_beam_width": 20,
}
USERS = ["anna", *(f"visitor{n}" for n in range(39))]


def write_files(films: int) -> None:
  """clicks.csv, films.csv, posters.npy, posters.txt in the working folder."""
  rng = np.random.default_rng(0)
  rows = [
    f"{user},film{film},{when}"
    for user in USERS
    for when, film in enumerate(rng.choice(films, 12, replace=False))
  ]
  Path("clicks.csv").write_text("\n".join(["visitor,film,when", *rows]))
  names = [f"film{n}" for n in range(films)]
  about = [f"{name},The {name},genre{n % 3}" for n, name in enumerate(names)]
  Path("films.csv").write_text("\n".join(["film,title,genres", *about]))
  np.save("posters.npy", rng.normal(size=(films, 16)).astype(np.float32))
  Path("posters.txt").write_text("\n".join(names))


def run(command: str, instead: dict[str, str] | None = None) -> None:
  """A command of README in this process, which must end well."""
  for written, other in (instead or {}).items():
    assert written in command
    command = command.replace(written, other)
  _, _, module, *arguments = shlex.split(command)
  try:
    as_python_m(module, arguments)
  except SystemExit as done:
    assert not done.code, command


def written(*words: str) -> str:
  """The one command of README that has all of them."""
  (one,) = [c for c in commands() if all(word in c for word in words)]
  return one


PREPARE = written("prepare", "clicks.csv", "posters.npy")


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
  """The folder of README's example of one's own data, with a run in it."""
  folder = tmp_path_factory.mktemp("own")
  settings = [f"--config.{key}={value}" for key, value in TINY.items()]
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    write_files(films=30)
    run(PREPARE)
    train = shlex.split(written("configs/own.py", "data/films"))[3:]
    Path("configs").symlink_to(ROOT / "configs")
    done = subprocess.run(
      [sys.executable, "-m", "mmgrec_jax.main", *train, *settings],
      env={**os.environ, "PYTHONPATH": str(ROOT)},
      capture_output=True, text=True,
    )  # fmt: skip
  assert done.returncode == 0, done.stderr
  return folder


@pytest.mark.usefixtures("one_device")
def test_from_files_to_recommendations_and_on(own_run, monkeypatch, capsys):
  monkeypatch.chdir(own_run)
  assert load_dataset("data/films").n_items == 30
  run(written("recommend", "runs/own"))
  assert "anna" in capsys.readouterr().out

  write_files(films=33)
  run(PREPARE, {"--out=data/films": "--out=data/films2"})
  Path("runs/films").symlink_to(own_run / "runs" / "own")
  run(written("mmgrec_jax.extend"))
  assert "3 new items" in capsys.readouterr().out
  run(written("recommend", "runs/films2"))
  assert "anna" in capsys.readouterr().out


@pytest.mark.usefixtures("one_device")
def test_the_python_code_runs(own_run, small_data, tmp_path, monkeypatch):
  save, ask, serve = [text for language, text in BLOCKS if language == "python"]
  monkeypatch.chdir(tmp_path)
  names = {
    "user": small_data.user_E,
    "item": small_data.item_E,
    "text_vectors": np.ones((small_data.n_items, 3), np.float32),
    "user_names": small_data.user_ids,
    "item_names": small_data.item_ids,
  }
  exec(save, names)
  assert load_dataset("data/mine").n_items == small_data.n_items
  (tmp_path / "runs").mkdir()
  (tmp_path / "runs" / "ml100k").symlink_to(own_run / "runs" / "own")
  (tmp_path / "data").joinpath("films").symlink_to(own_run / "data" / "films")
  there = {"196": "anna", "22": "visitor1", "50": "film1", "181": "film2"}
  for name, instead in {**there, "172": "film3"}.items():
    ask = ask.replace(f'"{name}"', repr(instead))
    serve = serve.replace(f'"{name}"', repr(instead))
  exec(ask, {})
  flags = ["--workdir=runs/ml100k", "--out=served", "--platforms=cpu"]
  assert export.main(flags) == 0
  exec(serve, {})
