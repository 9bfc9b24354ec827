"""Ways to damage a file, and what any reader must do with it then."""

import io
import json
import warnings
import zipfile

import numpy as np
import pytest

from mmgrec_jax.arrays import digest, read_npz
from mmgrec_jax.errors import UserError

# All that bytes alone hardly turn into.
NUMBERS = (-1, 0, 1, 2**31, 2**63 - 1, 0.5, np.nan, np.inf, 1e38)
VALUES = (None, True, -1, 2**70, 1e308, np.nan, 0.5, "x", "", [], [0], {})


def in_bytes(content, rng, path):
  """One to three cuts, flips, insertions, repetitions or other numbers."""
  del path
  data = bytearray(content)
  for _ in range(rng.integers(1, 4)):
    at = int(rng.integers(0, len(data) + 1))
    size = int(rng.integers(1, 9))
    kind = rng.integers(0, 6)
    if kind == 0:
      data = data[:at]
    elif kind == 1 and data:
      data[min(at, len(data) - 1)] ^= 1 << int(rng.integers(0, 8))
    elif kind == 2:
      data[at:at] = rng.bytes(size)
    elif kind == 3:
      del data[at : at + size]
    elif kind == 4:
      data[at:at] = data[max(at - size, 0) : at]
    else:  # digits count, such as shapes and ids
      places = [i for i, byte in enumerate(data) if 48 <= byte < 58]
      if places:
        data[places[int(rng.integers(len(places)))]] = 48 + rng.integers(10)
  return bytes(data)


def changed_array(array, rng):
  """Another shape, type or value."""
  other = [
    lambda: array[:-1],
    lambda: np.concatenate([array, array]),
    lambda: array[None],
    lambda: array.reshape(-1),
    lambda: array.T,
    lambda: array[..., :-1],
    lambda: array.astype(rng.choice(["U", "S", "f4", "i8", "u1", "?"])),
    lambda: np.zeros(rng.integers(0, 2, rng.integers(0, 4)), array.dtype),
  ]
  if array.size and rng.integers(2):
    out = array.copy()
    out.flat[rng.integers(array.size)] = rng.choice(NUMBERS)
    return out
  return other[rng.integers(len(other))]()


def in_arrays(content, rng, path):
  """One array of an .npz is another, or gone; CRCs and checksum are right."""
  with zipfile.ZipFile(io.BytesIO(content)) as archive:
    members = {name: archive.read(name) for name in archive.namelist()}
  name = str(rng.choice(list(members)))
  how = rng.integers(0, 8)
  if how == 0:
    del members[name]
  elif how == 1:
    members[str(rng.choice(list(members)))] = members[name]
  elif how < 4:
    members[name] = in_bytes(members[name], rng, path)
  else:
    array = np.load(io.BytesIO(members[name]))
    with np.errstate(all="ignore"):
      changed = try_to(changed_array, array, rng)
    out = io.BytesIO()
    np.save(out, changed)
    members[name] = out.getvalue()
  with zipfile.ZipFile(path, "w") as archive:
    for member, data in members.items():
      archive.writestr(member, data)
  try:
    comment = digest(read_npz(path, "")).encode()
  except UserError:
    comment = b"of what cannot be read"
  with zipfile.ZipFile(path, "a") as archive:
    archive.comment = comment
  return path.read_bytes()


def try_to(change, array, rng):
  """A change that this array allows."""
  while True:
    try:
      return change(array, rng)
    except (ValueError, OverflowError, IndexError, TypeError):
      continue


def in_json(content, rng, path):
  """A value somewhere in a JSON object, or its lines, is another, or gone."""
  del path
  lines = content.decode().splitlines()
  at = 0
  if not all(line.startswith("{") and line.endswith("}") for line in lines):
    lines = [content.decode()]
  else:
    at = int(rng.integers(len(lines)))
  whole = node = json.loads(lines[at])
  while True:
    keys = list(node) if isinstance(node, dict) else range(len(node))
    key = keys[rng.integers(len(keys))]
    if not (isinstance(node[key], dict | list) and node[key]):
      break
    if not rng.integers(4):
      break
    node = node[key]
  if rng.integers(4):
    node[key] = VALUES[rng.integers(len(VALUES))]
  else:
    del node[key]
  lines[at] = json.dumps(whole)
  return "\n".join(lines).encode()


WAYS = {"bytes": in_bytes, "arrays": in_arrays, "json": in_json}


@pytest.fixture
def fuzz(rng):
  """Damages a file many times: each is read, or named in one sentence.

  The whole file is read, and some damage at least is noticed.
  """

  def run(path, read, times, ways="bytes", lines=1):
    whole, refused = path.read_bytes(), 0
    ways = [WAYS[way] for way in ways.split()]
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      read(path)
      for _ in range(times):
        damage = ways[rng.integers(len(ways))]
        path.write_bytes(damage(whole, rng, path))
        try:
          read(path)
        except UserError as error:
          assert len(str(error).split("\n")) <= lines, str(error)
          refused += 1
    assert refused > 0

  return run
