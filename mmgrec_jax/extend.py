"""Lets a finished run recommend items and serve users that came later.

    python -m mmgrec_jax.extend --workdir=runs/films --new_data=data/films2 \\
      --out=runs/films2
    python -m mmgrec_jax.recommend --workdir=runs/films2 --users=anna

Nothing is trained, it takes seconds. The new data set has all items of the
run's, and more, known by their ids: `prepare` makes it, with --all_items also
of items without an interaction. Vectors and Rec-IDs of what the run knows stay
as they are. A new item's vector comes of its features, by a linear map from the
features of the run's items to their vectors; its Rec-ID comes of the run's
quantizer. A new user's vector comes of their training items.

What it writes is read by recommend and export as any run is, and can be
extended again. Exit codes: 0 done, 2 wrong input, with one sentence of what to
mend and nothing written.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmgrec_jax.errors import UserError
from mmgrec_jax.files import check_free
from mmgrec_jax.recommend import run_parser
from mmgrec_jax.startup import before_jax


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  parser = run_parser("extend", __doc__)
  parser.add_argument(
    "--new_data", type=Path, required=True, help="the folder with more in it"
  )
  parser.add_argument(
    "--out", type=Path, required=True, help="workdir to write, not there yet"
  )
  parser.add_argument(
    "--boost",
    type=float,
    default=1.0,
    help="vectors of new items times this: above 1, they are recommended more"
    " often among all, at the cost of known ones; default 1",
  )
  return parser.parse_args(argv)


def extend(given: argparse.Namespace) -> dict:
  """Writes the workdir; returns what extended.json holds.

  Raises:
    UserError: naming the folder or item that is wrong.
  """
  check_free(given.out)
  if not 0 < given.boost < float("inf"):
    raise UserError(f"--boost={given.boost}: it must be above 0.")
  if not given.new_data.is_dir():
    raise UserError(f"--new_data={given.new_data}: there is no such folder.")
  before_jax()
  from mmgrec_jax.data.folder import load_dataset
  from mmgrec_jax.serving import extending
  from mmgrec_jax.serving.trained import open_workdir
  from mmgrec_jax.training.parallel import ANOTHER_DEVICE, enough_memory

  run = open_workdir(given.workdir, given.data)
  data = load_dataset(given.new_data)
  with enough_memory("extend", ANOTHER_DEVICE):
    return extending.extend(run, data, given.new_data, given.out, given.boost)


def main(argv: Sequence[str] | None = None) -> int:
  """Returns the exit code."""
  given = parse(argv)
  try:
    about = extend(given)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  print(
    f"wrote {given.out}: {about['new_items']:,} new items,"
    f" {about['new_users']:,} new users"
    f" ({about['users_gone']:,} are no longer there)"
  )
  if about["new_items"]:
    print(
      f"features explain {about['features_explain']:.0%} of the vector of an"
      " item that they were not fitted to; vectors of known items are"
      f" {about['known_are_longer']:.2f} times as long as mapped ones, which"
      f" --boost makes longer (now {about['boost']:g})"
    )
  return 0


if __name__ == "__main__":
  sys.exit(main())
