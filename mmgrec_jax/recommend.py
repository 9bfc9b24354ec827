"""Recommends items to people, from the workdir of a finished run.

    python -m mmgrec_jax.recommend --workdir=runs/ml100k --users=196,22 --k=5
    python -m mmgrec_jax.recommend --workdir=runs/ml100k \\
      --users_file=users.txt --format=json > lists.jsonl
    python -m mmgrec_jax.recommend --workdir=runs/ml100k --history=50,181,172

Ids are the data set's own. Lists of ids are parted by commas, with "…" around
an id that has one; a file has one id to a line. What a user has is never
recommended. Exit codes: 0 done, 2 wrong input, with one sentence of what to
mend.
"""

import argparse
import contextlib
import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from mmgrec_jax.errors import UserError
from mmgrec_jax.startup import before_jax

LISTS = {
  "users": "users of the data set",
  "history": "what someone new likes, the newest first",
  "exclude": "items that nobody is to get",
  "only": "the items to choose from; default: all",
}


def run_parser(command: str, doc: str | None) -> argparse.ArgumentParser:
  """Of a command that reads a finished run."""
  out = argparse.ArgumentParser(
    prog=f"python -m mmgrec_jax.{command}",
    description=doc,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  out.add_argument("--workdir", type=Path, required=True)
  out.add_argument(
    "--data", type=Path, help="its data set; default: where the run found it"
  )
  return out


def new_parser(command: str, doc: str | None) -> argparse.ArgumentParser:
  """Of a command that makes a finished run recommend."""
  out = run_parser(command, doc)
  out.add_argument("--k", type=int, default=10, help="items for each; 10")
  out.add_argument(
    "--seen",
    choices=("all", "train"),
    default="all",
    help="what is read of a user and not recommended: all the data set has, or"
    " its training part, as in the evaluation (which may leave validation's"
    " items out besides)",
  )
  return out


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Flags; exits with 2 and one sentence where they are wrong."""
  parser = new_parser("recommend", __doc__)
  for name, what in LISTS.items():
    either = parser.add_mutually_exclusive_group()
    either.add_argument(f"--{name}", metavar="ID,…", help=what)
    either.add_argument(f"--{name}_file", type=Path, help="the same, a file")
  parser.add_argument(
    "--batch_size",
    type=int,
    help="users that a device handles at a time; default: the run's"
    " evaluation.batch_size",
  )
  parser.add_argument(
    "--format",
    choices=WRITERS,
    default="table",
    help="table for people; csv; json: one line a user",
  )
  given = parser.parse_args(argv)
  someone = [given.users, given.users_file, given.history, given.history_file]
  if sum(flag is not None for flag in someone) != 1:
    parser.error("give one of --users, --users_file, --history, --history_file")
  if given.batch_size is not None and given.batch_size < 1:
    parser.error(f"--batch_size={given.batch_size}: it must be 1 or more.")
  return given


def ids_of(given: argparse.Namespace, name: str) -> list[str] | None:
  """The ids of a list flag or of its file; None: neither is given.

  Raises:
    UserError: the file cannot be read or has an empty line, the flag a break.
  """
  text, path = getattr(given, name), getattr(given, f"{name}_file")
  if text is not None:
    try:
      return next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error as error:
      raise UserError(
        f"--{name}: {error}; separate ids by commas, or give --{name}_file."
      ) from error
  return None if path is None else list(_lines(path))


def _lines(path: Path) -> Iterator[str]:
  try:
    with path.open(encoding="utf-8-sig") as file:
      for number, line in enumerate(file, start=1):
        if not line.strip():
          raise UserError(f"{path}, line {number}: empty; give one id a line.")
        yield line.rstrip("\r\n")
  except OSError as error:
    raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
  except UnicodeDecodeError as error:
    raise UserError(
      f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as"
      " UTF-8."
    ) from error


def write_table(found: Iterable) -> None:
  for one in found:
    print("someone new" if one.user is None else f"user {one.user}")
    width = max((len(title) for title in one.titles), default=0)
    for rank, item in enumerate(one.items):
      title, score = one.titles[rank], one.scores[rank]
      cells = [f"{rank + 1:4}", f"{title:<{width}}"]
      if title != str(item):
        cells.append(f"item {item}")
      cells.append(f"score {score:.3f}")
      if one.rec_ids is not None:
        cells.append(_dashed(one.rec_ids[rank]))
      print(*cells, sep="  ")


def write_csv(found: Iterable) -> None:
  writer = csv.writer(sys.stdout, lineterminator="\n")
  writer.writerow(["user", "rank", "item", "title", "score", "rec_id"])
  for one in found:
    for rank, item in enumerate(one.items):
      ids = "" if one.rec_ids is None else _dashed(one.rec_ids[rank])
      score = f"{one.scores[rank]:.6g}"
      user = "" if one.user is None else one.user
      writer.writerow([user, rank + 1, item, one.titles[rank], score, ids])


def write_json(found: Iterable) -> None:
  for one in found:
    items = [
      {
        "item": item,
        "title": str(one.titles[rank]),
        "score": float(one.scores[rank]),
        **(
          {} if one.rec_ids is None else {"rec_id": one.rec_ids[rank].tolist()}
        ),
      }
      for rank, item in enumerate(one.items.tolist())
    ]
    print(json.dumps({"user": one.user, "items": items}, ensure_ascii=False))


WRITERS = {"table": write_table, "csv": write_csv, "json": write_json}


def _dashed(rec_id) -> str:
  return "-".join(map(str, rec_id))


def recommend(given: argparse.Namespace) -> None:
  """Flags -> lists on stdout.

  Raises:
    UserError: naming the file, line or id that is wrong.
  """
  before_jax()
  from mmgrec_jax.training.parallel import ANOTHER_DEVICE, enough_memory

  with enough_memory(
    "recommend", f"give a smaller --batch_size; {ANOTHER_DEVICE}"
  ):
    _recommend(given)


def _recommend(given: argparse.Namespace) -> None:
  from mmgrec_jax.serving.recommender import Recommender
  from mmgrec_jax.serving.trained import open_workdir

  run = open_workdir(given.workdir, given.data)
  if given.batch_size is not None:
    run.config.evaluation.batch_size = given.batch_size
  recommender = Recommender(run, given.seen)
  limits = {
    "k": given.k,
    "exclude": ids_of(given, "exclude") or (),
    "only": ids_of(given, "only"),
  }
  write = WRITERS[given.format]
  history = ids_of(given, "history")
  if history is not None:
    write(recommender.recommend_to_new([history], **limits))
    return
  # All are looked up before the first list is written.
  users = ids_of(given, "users") or []
  for user in users:
    recommender.catalogue.user_row(user)
  found = recommender.stream(users, **limits)
  n = len(users)
  write(tqdm(found, total=n, unit="user", disable=None if n > 1000 else True))


def main(argv: Sequence[str] | None = None) -> int:
  """Returns the exit code."""
  given = parse(argv)
  try:
    recommend(given)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  except BrokenPipeError:  # head has seen enough
    with contextlib.suppress(OSError):
      sys.stdout.close()
  return 0


if __name__ == "__main__":
  sys.exit(main())
