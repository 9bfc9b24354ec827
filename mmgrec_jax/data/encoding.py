"""Encodes items in chunks that are kept, so that a killed run goes on.

A million pictures take hours. Each finished chunk is a file beside the data
set, found again by model, item and content, and deleted when all is written.
"""

import contextlib
import dataclasses
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mmgrec_jax.arrays import Form, read_arrays, write_arrays
from mmgrec_jax.errors import UserError

CHUNK = 256  # items: seconds on a CPU, and some thousand files for a million
MOST_NAMED = 20
FORMS = {"key": Form(bytes, "N"), "vector": Form(float, "NxD")}


@dataclasses.dataclass(frozen=True)
class Encoder:
  """A pretrained model, whichever library it comes from.

  Attributes:
    feature: what the feature is called.
    model: a folder or a name.
    load: an item's text or picture's path -> what `encode` takes. Raises
      UserError where that cannot be read.
    encode: a chunk of what was loaded -> an array, a row each.
  """

  feature: str
  model: str
  load: Callable[[Any], Any]
  encode: Callable[[list], np.ndarray]


def partial_folder(out: Path) -> Path:
  """Where the chunks of a data set that is not written yet are kept."""
  return out.absolute().with_name(f"{out.absolute().name}.partial")


def forget(folder: Path) -> None:
  """Deletes kept chunks, of any model, and nothing else."""
  for path in folder.glob("*chunk-*.npz"):
    path.unlink()
  with contextlib.suppress(OSError):  # not there, or something else is in it
    folder.rmdir()


def encode_items(
  encoder: Encoder,
  item_ids: np.ndarray,
  inputs: Sequence[str | Path | None],
  folder: Path,
) -> np.ndarray:
  """What is not kept yet is encoded and kept. float32 [I, D].

  Args:
    inputs: an item's text or its picture's path; one without gets zeros.
    folder: of the kept chunks.

  Raises:
    UserError: inputs cannot be read, after all others have been encoded.
  """
  row_of = {
    _key(item, given): row
    for row, (item, given) in enumerate(zip(item_ids, inputs, strict=True))
    if given
  }
  chunks = _Chunks(folder, encoder)
  kept = chunks.keys()
  todo = [key for key in row_of if key not in kept]
  if done := len(row_of) - len(todo):
    print(f"{encoder.feature}: {done:,} of {len(row_of):,} are in {folder}")
  faults = {}
  with _bar(encoder.feature, done, len(row_of)) as bar:
    for start in range(0, len(todo), CHUNK):
      part = todo[start : start + CHUNK]
      given = {key: inputs[row_of[key]] for key in part}
      faults |= _encode_chunk(encoder, given, chunks)
      bar.update(len(part))
  if faults:
    raise _unreadable(faults, len(row_of))
  return chunks.collect(row_of, len(inputs))


def _key(item: str, given: str | Path) -> bytes:
  """Changes with what an item is called and with what it is."""
  what = str(given)
  if isinstance(given, Path):
    facts = given.stat()
    what += f"\0{facts.st_size}\0{facts.st_mtime_ns}"
  return _digest(f"{item}\0{what}")


def _digest(text: str) -> bytes:
  named = text.encode(errors="surrogateescape")
  return hashlib.blake2b(named, digest_size=16).hexdigest().encode()


def _encode_chunk(
  encoder: Encoder, given: dict[bytes, Any], chunks: "_Chunks"
) -> dict[Any, str]:
  """Keeps what can be read; input -> reason of what cannot."""
  with ThreadPoolExecutor() as pool:  # pictures are decoded without the GIL
    loaded = dict(
      zip(given, pool.map(_try(encoder.load), given.values()), strict=True)
    )
  good = {k: x for k, x in loaded.items() if not isinstance(x, UserError)}
  if good:
    vectors = np.asarray(encoder.encode(list(good.values())), np.float32)
    if not np.isfinite(vectors).all():
      raise UserError(
        f"{encoder.model}: its {encoder.feature} vectors are not finite; take"
        " another model."
      )
    chunks.write(list(good), vectors)
  bad = given.keys() - good.keys()
  return {given[key]: str(loaded[key]) for key in given if key in bad}


def _try(load: Callable) -> Callable:
  def loaded(given: Any) -> Any:
    try:
      return load(given)
    except UserError as error:
      return error

  return loaded


def _unreadable(faults: dict[Any, str], total: int) -> UserError:
  names = [str(name) for name in faults][:MOST_NAMED]
  more = ", …" if len(faults) > len(names) else ""
  return UserError(
    f"{', '.join(names)}{more}: {len(faults):,} of {total:,} files cannot be"
    f" read as pictures ({next(iter(faults.values()))}); replace them, or"
    " delete them for items without one, and run again: the others are kept."
  )


class _Chunks:
  """The files of one model's finished chunks."""

  def __init__(self, folder: Path, encoder: Encoder):
    mark = _digest(f"{encoder.feature}\0{_model_facts(encoder.model)}").decode()
    self.folder, self.stem = folder, f"chunk-{encoder.feature}-{mark}"
    self.paths = sorted(folder.glob(f"{self.stem}-{6 * '[0-9]'}.npz"))

  def keys(self) -> set[bytes]:
    return {key for path in self.paths for key in _read(path)["key"]}

  def write(self, keys: list[bytes], vectors: np.ndarray) -> None:
    last = int(self.paths[-1].stem[-6:]) if self.paths else -1
    path = self.folder / f"{self.stem}-{last + 1:06}.npz"
    try:
      self.folder.mkdir(parents=True, exist_ok=True)
      write_arrays(path, {"key": np.array(keys), "vector": vectors})
    except OSError as error:
      raise UserError(
        f"{path}: cannot be written ({error}); give another place to --out."
      ) from error
    self.paths.append(path)

  def collect(self, row_of: dict[bytes, int], n_items: int) -> np.ndarray:
    out_IxD = np.zeros((n_items, 0), np.float32)
    width: dict[str, int] = {}  # not known before the first
    for path in self.paths:
      chunk = _read(path, **width)
      if not width:
        width["D"] = chunk["vector"].shape[1]
        out_IxD = np.zeros((n_items, width["D"]), np.float32)
      for key, vector in zip(chunk["key"], chunk["vector"], strict=True):
        if key in row_of:
          out_IxD[row_of[key]] = vector
    return out_IxD


def _read(path: Path, **sizes: int) -> dict[str, np.ndarray]:
  return read_arrays(path, "delete it and run again", FORMS, **sizes)


def _model_facts(model: str) -> str:
  """The name; of a folder also what changes when other weights lie in it."""
  return "\0".join([model, *sorted(_facts(Path(model)))])


def _facts(folder: Path) -> Iterator[str]:
  for path in folder.rglob("*") if folder.is_dir() else ():
    facts = path.stat()
    if path.is_file():
      yield f"{path.relative_to(folder)} {facts.st_size} {facts.st_mtime_ns}"


def _bar(name: str, done: int, total: int) -> tqdm:
  return tqdm(
    desc=name,
    initial=done,
    total=total,
    unit="item",
    file=sys.stdout,
    mininterval=0.5 if sys.stdout.isatty() else 20.0,
    dynamic_ncols=True,
  )
