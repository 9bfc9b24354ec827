"""Which picture is of which item, and what is in it."""

from pathlib import Path
from typing import Any

import numpy as np

from mmgrec_jax.data import content
from mmgrec_jax.errors import UserError, first_line

ENDINGS = (
  ".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"
)  # fmt: skip


def in_folder(folder: Path, item_ids: np.ndarray) -> list[Path | None]:
  """Files that are called by item id.

  Raises:
    UserError: no folder, no picture of any item, or two of one.
  """
  if not folder.is_dir():
    raise UserError(f"--images={folder}: no such folder; give the pictures'.")
  files = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in ENDINGS]
  if not files:
    raise UserError(
      f"--images={folder}: no picture in it; name them <item id> with one of"
      f" the endings {', '.join(ENDINGS)}."
    )
  known, by_id = set(item_ids.tolist()), {}
  for path in files:
    if path.stem in by_id and path.stem in known:
      raise UserError(
        f"{by_id[path.stem]} and {path.name} are both of item {path.stem!r};"
        " keep one of them."
      )
    by_id[path.stem] = path
  row_I = content.match_rows(folder, np.array(list(by_id)), item_ids)
  unknown = len(by_id) - int((row_I >= 0).sum())
  if unknown:
    print(f"{folder}: {unknown:,} of {len(by_id):,} pictures are of no item")
  paths = list(by_id.values())
  return [paths[row] if row >= 0 else None for row in row_I]


def in_column(
  table: Path, item_column: str, column: str, item_ids: np.ndarray
) -> list[Path | None]:
  """Files that a table names, by paths from the folder where the table is.

  Raises:
    UserError: the table cannot be read, or none of the files is there.
  """
  texts = content.read_texts(
    table, item_column, [column], item_ids, "--image_column"
  )[column]
  named = [table.parent / text if text else None for text in texts]
  found = [path if path and path.is_file() else None for path in named]
  gone = [p for p, q in zip(named, found, strict=True) if p and not q]
  if not any(found):
    such = f", such as {gone[0]}," if gone else ""
    raise UserError(
      f"{table}: no file that {column!r} names{such} is there; write paths from"
      f" the folder {table.parent}."
    )
  if gone:
    print(
      f"{table}: {len(gone):,} of {len(named) - named.count(None):,} files that"
      f" {column!r} names are not there, such as {gone[0]}"
    )
  return found


def open_picture(path: Path) -> Any:
  """A picture in RGB.

  Raises:
    UserError: the reason why it is none.
  """
  from PIL import Image

  try:
    with Image.open(path) as image:
      return image.convert("RGB")
  except Exception as error:  # Pillow's plugins raise every kind
    raise UserError(first_line(error)) from error
