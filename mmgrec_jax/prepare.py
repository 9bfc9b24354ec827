"""Makes a data set folder of a person's own files, or of published ones.

    python -m mmgrec_jax.prepare --interactions=clicks.csv --out=data/mine
    python -m mmgrec_jax.prepare --interactions=clicks.csv \\
      --time_column=when --k_core=5 --split=leave_last \\
      --items=items.csv --text=title,description \\
      --features=visual=posters.npy --feature_ids=visual=posters.txt \\
      --out=data/mine
    python -m mmgrec_jax.prepare --interactions=clicks.csv \\
      --items=items.csv --text=title,description \\
      --text_model=models/all-MiniLM-L6-v2 \\
      --images=posters --image_model=vit_small_patch14_dinov2.lvd142m \\
      --out=data/mine
    python -m mmgrec_jax.prepare --interactions=downloads/baby --out=data/baby

Files are CSV, TSV, Parquet or JSON lines by their ending; text may be packed
(.gz). Or --interactions is a folder in the form of RecBole, MMRec, MMGCN, GRCN,
LightGT, MMSSL or DiffMM.

Pretrained encoders need pip install 'mmgrec-jax[features]'. What they have done
is kept in <out>.partial until all is written: after a kill, the same command
goes on. Exit codes: 0 done, 2 wrong input, with one sentence of what to mend
and no data set written.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mmgrec_jax.data import encoding, headers, published, published_counts
from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.data.folder import save_dataset
from mmgrec_jax.data.own import TEXT_WIDTH, from_tables
from mmgrec_jax.errors import UserError
from mmgrec_jax.files import check_free
from mmgrec_jax.report.tables import statistics_table

# All that there is to say of a published folder whose split is stored.
OF_ANY_FOLDER = ("interactions", "out", "name", "format")


def _names(text: str) -> list[str]:
  names = [name for name in text.split(",") if name]
  if not names:
    raise argparse.ArgumentTypeError("names no column")
  again = [name for name in names if names.count(name) > 1]
  if again:
    raise argparse.ArgumentTypeError(
      f"names {again[0]!r} more than once; leave the others out"
    )
  return names


def _at_least(least: int) -> Callable[[str], int]:
  def whole(text: str) -> int:
    if not text.isdecimal() or int(text) < least:
      raise argparse.ArgumentTypeError(
        f"{text!r} is no whole number from {least} on"
      )
    return int(text)

  return whole


def _pair(text: str) -> tuple[str, Path]:
  name, _, file = text.partition("=")
  if not file or not name.isidentifier():
    raise argparse.ArgumentTypeError(
      f"{text!r} is not NAME=FILE, such as visual=posters.npy"
    )
  return name, Path(file)


# A default that help names is None here: what is given can be told from it.
FLAGS = {
  "interactions": dict(type=Path, required=True, help="a file or a folder"),
  "out": dict(type=Path, required=True, help="folder to write, not there yet"),
  "name": dict(help="what reports call it; default: the name of --out"),
  "format": dict(
    choices=published.FORMS, help="of a folder; default: recognised"
  ),
  "user_column": dict(help="default: user"),
  "item_column": dict(
    help="in interactions, --items and tables of features; default: item"
  ),
  "time_column": dict(help="numbers or ISO dates; default: none"),
  "rating_column": dict(help="for --min_rating"),
  "min_rating": dict(type=float, help="leave out what is rated lower"),
  "k_core": dict(
    type=_at_least(1), help="keep users and items that have at least so many"
  ),
  "split": dict(
    choices=("random", "leave_last", "time"),
    help="random: 80/10/10 of each user; leave_last: each user's last is for"
    " the test; time: the newest tenth is; default: random",
  ),
  "seed": dict(type=_at_least(0), help="of the random split; default: 0"),
  "items": dict(type=Path, help="a table of items"),
  "all_items": dict(
    action="store_const",
    const=True,
    help="keep those of --items that have no interaction, too",
  ),
  "text": dict(
    type=_names,
    metavar="COLUMN,…",
    help="its columns that make the text feature; the first is the title",
  ),
  "text_width": dict(
    type=_at_least(1), help=f"of the text feature; default: {TEXT_WIDTH}"
  ),
  "text_model": dict(
    metavar="FOLDER_OR_NAME",
    help="of sentence-transformers, makes the text feature; default: TF-IDF",
  ),
  "images": dict(
    type=Path, help="a folder of pictures called <item id>.jpg, .png, .webp, …"
  ),
  "image_column": dict(
    help="of --items: paths of pictures, from the folder where that table is"
  ),
  "image_model": dict(
    metavar="FOLDER_OR_NAME",
    help="of timm, makes the feature 'visual' of the pictures",
  ),
  "features": dict(
    type=_pair,
    action="append",
    metavar="NAME=FILE",
    help="a precomputed feature, .npy or a table with item ids; repeatable",
  ),
  "feature_ids": dict(
    type=_pair,
    action="append",
    metavar="NAME=FILE",
    help="item ids of an .npy's rows, .npy or one to a line; repeatable",
  ),
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Flags; exits with 2 and one sentence where they are wrong."""
  parser = argparse.ArgumentParser(
    prog="python -m mmgrec_jax.prepare",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  for name, options in FLAGS.items():
    parser.add_argument(f"--{name}", **options)
  return parser.parse_args(argv)


def prepare(args: argparse.Namespace) -> Dataset:
  """Flags -> data set, with what was left out printed.

  Raises:
    UserError: naming the file, row or flag that is wrong.
  """
  name = args.name or args.out.absolute().name
  if not args.interactions.is_dir():
    if args.format:
      raise UserError(
        f"--format={args.format} is for a folder, but {args.interactions} is"
        " none; give the folder to --interactions."
      )
    return from_tables(args, name)
  form = args.format or published.recognise(args.interactions)
  print(f"{args.interactions}: in the form of {form}")
  if form == "recbole":
    return from_tables(recbole_flags(args), name)
  for given, value in vars(args).items():
    if value is not None and given not in OF_ANY_FOLDER:
      raise UserError(
        f"--{given}: {args.interactions} fixes that itself, with its split;"
        " leave the flag out."
      )
  data = published.READERS[form](args.interactions, name)
  known = published_counts.compare(form, args.interactions.resolve().name, data)
  if known:
    print(known)
  return data


def recbole_flags(args: argparse.Namespace) -> argparse.Namespace:
  """Fills in RecBole's names where the caller gave none."""
  folder = args.interactions
  table = published.only_file(folder, "*.inter")
  items = table.with_suffix(".item")
  usual = {"user_column": "user_id", "item_column": "item_id"}
  if "timestamp" in headers.column_names(table):
    usual["time_column"] = "timestamp"
  if items.is_file():
    types = headers.atomic_types(items)
    text = [name for name in types if types[name] == "token_seq"]
    used = text or args.text or args.image_column or args.all_items
    usual |= {"items": items, "text": text} if used else {}
  given = {flag: value for flag, value in vars(args).items() if value}
  return argparse.Namespace(
    **{**vars(args), **usual, **given, "interactions": table}
  )


def main(argv: Sequence[str] | None = None) -> int:
  """Returns the exit code."""
  args = parse(argv)
  try:
    check_free(args.out)
    data = prepare(args)
    save_dataset(data, args.out)
    encoding.forget(encoding.partial_folder(args.out))
  except UserError as error:
    print("error:", *str(error).split("\n"), file=sys.stderr)
    return 2
  facts = data.statistics()
  print(f"\n{statistics_table(facts)}\n")
  print(
    f"split: {facts['train']:,} train, {facts['valid']:,} validation,"
    f" {facts['test']:,} test"
  )
  print(f"fingerprint: {data.fingerprint}")
  print(f"wrote {args.out}; train with --config.data={args.out}")
  if not data.features:
    print(
      "no features: MMGRec needs --text or --features; baselines such as"
      " lightgcn do not"
    )
  return 0


if __name__ == "__main__":
  sys.exit(main())
