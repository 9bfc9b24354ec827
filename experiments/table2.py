"""Table 2: all systems. The command is explained in tables.py."""

import functools

from experiments import runs, tables

if __name__ == "__main__":
  runs.as_command(functools.partial(tables.main, 2))
