"""What README tells people to type is what the commands understand."""

import argparse
import re
import runpy
import shlex
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
def test_every_flag_is_one_of_the_commands(command, only_parse, monkeypatch):
  _, _, module, *arguments = shlex.split(command)
  # Stands for flags that were shown before.
  arguments = [a for a in arguments if a != "…"]
  if module == "mmgrec_jax.main":
    check_main(arguments)
    return
  if "…" in command:
    arguments += ["--interactions=x", "--out=x"]
  monkeypatch.setattr(sys, "argv", [module, *arguments])
  for imported in (module, f"{module}.__main__"):  # by another test
    monkeypatch.delitem(sys.modules, imported, raising=False)
  with pytest.raises(SystemExit if "--help" in arguments else Understood):
    runpy.run_module(module, run_name="__main__")


def test_the_files_it_names_are_there():
  named = re.findall(r"`((?:configs|experiments|docs)/[\w./]+)`", TEXT)
  named += [f"mmgrec_jax/{n}" for n in re.findall(r"`(\w+/\w+\.py)`", TEXT)]
  there = lambda name: (
    (ROOT / name).exists() or (ROOT / name.removeprefix("mmgrec_jax/")).exists()
  )
  assert len(named) > 20
  assert {n for n in named if not there(n)} == {"mmgrec_jax/models/NAME.py"}


@pytest.mark.usefixtures("one_device")
def test_the_python_code_runs(mmgrec_run, small_data, tmp_path, monkeypatch):
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
  (tmp_path / "runs" / "ml100k").symlink_to(mmgrec_run)
  for theirs, ours in (
    (("196", "22"), small_data.user_ids),
    (("50", "181", "172"), small_data.item_ids),
  ):
    for name, instead in zip(theirs, map(str, ours), strict=False):
      ask = ask.replace(f'"{name}"', repr(instead))
      serve = serve.replace(f'"{name}"', repr(instead))
  exec(ask, {})
  flags = ["--workdir=runs/ml100k", "--out=served", "--platforms=cpu"]
  assert export.main(flags) == 0
  exec(serve, {})
