"""What README tells people to type is what the commands understand."""

import argparse
import re
import shlex

import pytest
from absl import flags
from readme import ROOT, TEXT, as_python_m, commands

import mmgrec_jax.main  # noqa: F401  its flags
from experiments import planning

# Of ml_collections, when it reads a config file in this process.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")


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
    planning.read_config(of_config)


def test_there_are_commands():
  modules = {command.split()[2] for command in commands()}
  assert {
    "mmgrec_jax.main", "mmgrec_jax.prepare", "mmgrec_jax.recommend",
    "mmgrec_jax.export", "mmgrec_jax.extend", "experiments.table2",
    "experiments.kills", "experiments.coldstart", "experiments.table5",
    "experiments.figure4",
  } <= modules  # fmt: skip
  assert sum("experiments.table2 " in command for command in commands()) == 3


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
  of_config = [a for a in arguments if a.startswith("--config.")]
  planning.read_config(["--config=configs/lfm2k.py", *of_config])


def test_every_setting_in_the_text_is_there(monkeypatch):
  monkeypatch.chdir(ROOT)
  settings = re.findall(r"`(--config\.\w[^`]*=[^`]+)`", TEXT)
  assert len(settings) > 8
  for setting in settings:
    preset = "--config=configs/lfm2k.py:embedding=gcn"
    planning.read_config([preset, *shlex.split(setting)])


def test_the_files_it_names_are_there():
  named = re.findall(r"`((?:configs|experiments|docs)/[\w./]+)`", TEXT)
  named += [f"mmgrec_jax/{n}" for n in re.findall(r"`(\w+/\w+\.py)`", TEXT)]
  there = lambda name: (
    (ROOT / name).exists() or (ROOT / name.removeprefix("mmgrec_jax/")).exists()
  )
  assert len(named) > 20
  assert {n for n in named if not there(n)} == {"mmgrec_jax/models/NAME.py"}
