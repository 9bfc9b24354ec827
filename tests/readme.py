"""README's commands, for the tests that read and that run them."""

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
# "table3, table4 too": the same command, of another table.
_TOO = re.compile(r"\b(?:table\d|figure\d)\b")


def commands() -> list[str]:
  """Those of the blocks and those in running text, without comments."""
  shell = "\n".join(text for language, text in BLOCKS if not language)
  found = []
  for line in shell.replace("\\\n", " ").splitlines():
    command, _, comment = line.partition(" #")
    found += _with_others(command.partition(" >")[0].strip(), comment)
  return sorted({c for c in found + _in_text() if c.startswith("python -m ")})


def _in_text() -> list[str]:
  """Between backticks; an experiment stands there without `--out`."""
  prose = re.sub(r"^```.*?^```", "", TEXT, flags=re.DOTALL | re.MULTILINE)
  prose = prose.replace("\n", " ")
  found = re.findall(r"`(python -m [^`]+)`", prose)
  for command, after in re.findall(
    r"`(experiments\.\w+ [^`]+)`([^.:]*)", prose
  ):
    found += _with_others(f"python -m {command} --out=x", after)
  return found


def _with_others(command: str, comment: str) -> list[str]:
  other = lambda name: _TOO.sub(name, command, count=1)
  return [command, *map(other, _TOO.findall(comment))]


def written(*words: str) -> str:
  """The one command of README that has all of them."""
  (one,) = [c for c in commands() if all(word in c for word in words)]
  return one


def as_python_m(module: str, arguments: list[str]) -> None:
  """`python -m module arguments`, in this process."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sys, "argv", [module, *arguments])
    for imported in (module, f"{module}.__main__"):  # by another test
      patch.delitem(sys.modules, imported, raising=False)
    runpy.run_module(module, run_name="__main__")
