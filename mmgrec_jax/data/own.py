"""A person's own tables of interactions and items -> data set.

`args` are the flags of `mmgrec_jax.prepare`; None is what was not given.
"""

from argparse import Namespace

import numpy as np

from mmgrec_jax.data import content, encoders, encoding, pictures
from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.data.features import present_rows
from mmgrec_jax.data.interactions import (
  Interactions,
  k_core,
  merge_duplicates,
  read_interactions,
  take,
)
from mmgrec_jax.data.split import (
  split_by_time,
  split_interactions,
  split_leave_last,
)
from mmgrec_jax.errors import UserError

LONGEST_TITLE = 200
TEXT_WIDTH = 128


def from_tables(args: Namespace, name: str) -> Dataset:
  """Tables of interactions and, where given, of items -> data set."""
  check_flags(args)
  table = filtered(args)
  item_ids = catalogue(args, table.item_ids)
  features, titles, shown = describe_items(args, item_ids)
  return Dataset(
    name=name,
    user_E=table.user_E,
    item_E=table.item_E,
    split_E=split(args, table),
    features=features,
    user_ids=table.user_ids,
    item_ids=item_ids,
    timestamp_E=table.time_E,
    titles=titles,
    pictures=shown,
  )


def filtered(args: Namespace) -> Interactions:
  """Reads interactions, leaves out what the flags say, prints how many."""
  if (args.rating_column is None) != (args.min_rating is None):
    raise UserError("--rating_column and --min_rating go together: give both.")
  path = args.interactions
  table = read_interactions(
    path,
    args.user_column or "user",
    args.item_column or "item",
    args.time_column or "",
    args.rating_column or "",
  )
  said = [f"{path}: {len(table.user_E):,} rows"]
  if table.rating_E is not None:
    rows = np.flatnonzero(table.rating_E >= args.min_rating)
    said.append(f"{len(table.user_E) - len(rows):,} rated below the minimum")
    table = take(table, rows)
  rows, merged = merge_duplicates(table.user_E, table.item_E)
  said.append(f"{merged:,} duplicates merged")
  if merged:
    table = take(table, rows)
  if args.k_core is not None:
    rows = k_core(table.user_E, table.item_E, args.k_core)
    said.append(f"{len(table.user_E) - len(rows):,} outside the k-core")
    table = take(table, rows)
  print(", ".join(said))
  if not len(table.user_E):
    raise UserError(
      f"{path}: no interaction is left; lower --k_core or --min_rating."
    )
  for what, ids in (("user", table.user_ids), ("item", table.item_ids)):
    if len(ids) < 2:
      raise UserError(
        f"{path}: only one {what}, {str(ids[0])!r}, is left; recommending needs"
        f" more: check --{what}_column, and lower --k_core or --min_rating."
      )
  return table


def split(args: Namespace, table: Interactions) -> np.ndarray:
  """int8 [E], as --split says."""
  how = args.split or "random"
  if how != "random" and args.seed is not None:
    raise UserError(f"--seed has no effect on --split={how}; leave it out.")
  if how == "random":
    return split_interactions(table.user_E, args.seed or 0)
  if table.time_E is None:
    raise UserError(
      f"--split={how} needs the time of each interaction; name its column with"
      " --time_column."
    )
  if how == "leave_last":
    return split_leave_last(table.user_E, table.time_E)
  return split_by_time(table.time_E)


def catalogue(args: Namespace, used_ids: np.ndarray) -> np.ndarray:
  """Ids of the items: those with interactions and, where the flags say so, the
  others of --items behind them."""
  if not args.items:
    return used_ids
  listed = content.read_item_ids(args.items, args.item_column or "item")
  unused = list(dict.fromkeys(listed[~np.isin(listed, used_ids)].tolist()))
  if not unused:
    return used_ids
  if args.all_items:
    print(f"{args.items}: {len(unused):,} items without an interaction, too")
    return np.array([*used_ids.tolist(), *unused])
  print(
    f"{args.items}: {len(unused):,} items have no interaction and are left out"
    " (--all_items keeps them)"
  )
  return used_ids


def describe_items(
  args: Namespace, item_ids: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray | None, np.ndarray | None]:
  """Features by modality; titles and pictures' paths, where there are any."""
  # What is precomputed comes first: its faults should not wait for hours.
  computed = read_features(args, item_ids)
  features, titles, shown = {}, None, None
  if args.text:
    features["text"], titles = text_and_titles(args, item_ids)
  if args.images or args.image_column:
    features["visual"], shown = encode_pictures(args, item_ids)
  features |= computed
  for name, feature in features.items():
    missing = len(feature) - int(present_rows(feature).sum())
    if missing:
      print(f"{name}: {missing:,} of {len(feature):,} items have none (zeros)")
  return features, titles, shown


def check_flags(args: Namespace) -> None:
  """Raises UserError at flags that lack, or rule out, another."""
  for flag, needs in [
    ("text", ["items"]),
    ("text_width", ["text"]),
    ("text_model", ["text"]),
    ("image_column", ["items"]),
    ("items", ["text", "image_column", "all_items"]),
    ("all_items", ["items"]),
    ("images", ["image_model"]),
    ("image_column", ["image_model"]),
    ("image_model", ["images", "image_column"]),
  ]:
    if getattr(args, flag) and not any(getattr(args, other) for other in needs):
      raise UserError(
        f"--{flag} has no effect without --{' or --'.join(needs)}; give both or"
        " none."
      )
  for one, other in [("text_width", "text_model"), ("images", "image_column")]:
    if getattr(args, one) and getattr(args, other):
      raise UserError(
        f"--{one} has no effect with --{other}; leave one of them out."
      )


def read_features(
  args: Namespace, item_ids: np.ndarray
) -> dict[str, np.ndarray]:
  """The precomputed ones, by name."""
  features, ids_of = {}, dict(args.feature_ids or [])
  made = {"text": args.text, "visual": args.image_model}
  for name, path in args.features or []:
    if name in features or made.get(name):
      raise UserError(f"--features: two are called {name!r}; rename one.")
    features[name] = content.read_feature(
      path, ids_of.pop(name, None), args.item_column or "item", item_ids
    )
  if ids_of:
    raise UserError(
      f"--feature_ids={next(iter(ids_of))}=…: there is no --features of that"
      " name; add it."
    )
  return features


def text_and_titles(
  args: Namespace, item_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """The feature of all columns of --text; the first, else the id, as title."""
  item_column = args.item_column or "item"
  texts = content.read_texts(args.items, item_column, args.text, item_ids)
  columns = list(texts.values())
  joined = [" ".join(parts).strip() for parts in zip(*columns, strict=True)]
  titles = [
    title[:LONGEST_TITLE] or str(item)
    for title, item in zip(columns[0], item_ids, strict=True)
  ]
  if not args.text_model:
    width = args.text_width or TEXT_WIDTH
    return content.encode_texts(args.items, joined, width), np.array(titles)
  content.filled_rows(args.items, joined)
  encoder = encoders.text_encoder(args.text_model)
  return encode(args, encoder, item_ids, joined), np.array(titles)


def encode_pictures(
  args: Namespace, item_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """The feature of --images or of --image_column, and the pictures' paths."""
  if args.images:
    paths = pictures.in_folder(args.images, item_ids)
  else:
    paths = pictures.in_column(
      args.items, args.item_column or "item", args.image_column, item_ids
    )
  encoder = encoders.image_encoder(args.image_model)
  shown = np.array([str(path.absolute()) if path else "" for path in paths])
  return encode(args, encoder, item_ids, paths), shown


def encode(
  args: Namespace, encoder: encoding.Encoder, item_ids: np.ndarray, inputs: list
) -> np.ndarray:
  """`encoding.encode_items`, kept beside --out until that is written."""
  folder = encoding.partial_folder(args.out)
  return encoding.encode_items(encoder, item_ids, inputs, folder)
