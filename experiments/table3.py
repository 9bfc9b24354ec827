"""Table 3: without item representations. The command is in tables.py."""

import functools

from experiments import runs, tables

if __name__ == "__main__":
  runs.as_command(functools.partial(tables.main, 3))
