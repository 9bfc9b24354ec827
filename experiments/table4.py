"""Table 4: other ways to assign Rec-IDs. The command is in tables.py."""

import functools

from experiments import runs, tables

if __name__ == "__main__":
  runs.as_command(functools.partial(tables.main, 4))
