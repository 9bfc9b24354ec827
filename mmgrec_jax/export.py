"""Makes of a finished run one program that recommends, for other machines.

    python -m mmgrec_jax.export --workdir=runs/ml100k --out=served --k=10

The folder has the program (StableHLO, any number of users at a time, compiled
where it runs), weights, ids and Rec-IDs, with checksums. It is read without
Flax, Orbax or any of the training code:

    from mmgrec_jax.serving.exported import ExportedRecommender
    served = ExportedRecommender("served")
    for one in served.recommend(["196", "22"]):
      print(one.user, one.items)

Exit codes: 0 done, 2 wrong input, with one sentence of what to mend and nothing
written.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mmgrec_jax.errors import UserError
from mmgrec_jax.files import check_free, sha256, write_folder
from mmgrec_jax.recommend import new_parser
from mmgrec_jax.startup import before_jax

PLATFORMS = ("cpu", "cuda", "tpu")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  parser = new_parser("export", __doc__)
  parser.add_argument(
    "--out", type=Path, required=True, help="folder to write, not there yet"
  )
  parser.add_argument(
    "--longest",
    type=int,
    help="items of a history, at most; default: a power of 2 that is enough for"
    " every user there is",
  )
  parser.add_argument(
    "--platforms",
    default=",".join(PLATFORMS),
    help=f"where it is to run; default: {','.join(PLATFORMS)}",
  )
  return parser.parse_args(argv)


def export(given: argparse.Namespace) -> dict:
  """Writes the folder; returns what about.json holds.

  Raises:
    UserError: naming the folder or flag that is wrong.
  """
  check_free(given.out)
  platforms = given.platforms.split(",")
  if unknown := set(platforms) - set(PLATFORMS):
    raise UserError(
      f"--platforms: {min(unknown)!r} is none; they are {', '.join(PLATFORMS)}."
    )
  before_jax()
  from mmgrec_jax.arrays import write_arrays
  from mmgrec_jax.serving import exported, exporting
  from mmgrec_jax.serving.recommender import Recommender
  from mmgrec_jax.training.parallel import ANOTHER_DEVICE, enough_memory

  with enough_memory("export", ANOTHER_DEVICE):
    recommender = Recommender.load(given.workdir, given.data, given.seen)
    made = exporting.export(recommender, given.k, given.longest, platforms)
  with write_folder(given.out) as folder:
    (folder / exported.PROGRAM).write_bytes(made.program)
    write_arrays(folder / exported.WEIGHTS, made.weights)
    write_arrays(folder / exported.IDS, made.ids)
    about = {
      **made.about,
      "platforms": platforms,
      "sha256": {name: sha256(folder / name) for name in exported.FILES},
    }
    text = json.dumps(about, indent=1)
    (folder / exported.ABOUT).write_text(text, encoding="utf-8")
  return about


def main(argv: Sequence[str] | None = None) -> int:
  """Returns the exit code."""
  given = parse(argv)
  try:
    about = export(given)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  megabytes = sum(f.stat().st_size for f in given.out.iterdir()) / 1e6
  print(
    f"wrote {given.out} ({megabytes:.1f} MB): {about['name']}, {about['k']}"
    f" items a user, histories up to {about['longest']} items, for"
    f" {', '.join(about['platforms'])}"
  )
  return 0


if __name__ == "__main__":
  sys.exit(main())
