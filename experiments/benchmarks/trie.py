"""Which tokens may follow a beam's prefix: four ways to keep and ask it.

Command: python -m experiments.benchmarks.trie --out=runs/benchmarks

For catalogues of up to 10 million items: time and memory to build each form,
its bytes, and the time to answer for a batch of beams on the deepest prefixes
that still have children.
"""

import collections
import contextlib
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import report
from experiments.benchmarks.harness import Contestant, Run, main
from experiments.benchmarks.machine import peak_bytes
from mmgrec_jax.decoding.trie import build_trie
from mmgrec_jax.recid.assign import (
  RecIds,
  assign_rec_ids,
  load_rec_ids,
  save_rec_ids,
)

SIZES = (86_483, 1_000_000, 10_000_000)
SMALL_SIZES = (2_000,)
LEVELS = 3  # semantic tokens
USERS, BEAMS = 64, 50


def make_rec_ids(kind: str, items: int, size: int) -> RecIds:
  """Items with random semantic tokens; several may share all of them.

  Args:
    kind: `uniform`, or `skewed`: token t is drawn as often as 1 / sqrt(t + 1).
    size: L.
  """
  rng = np.random.default_rng(0)
  weight = (1.0 + np.arange(size)) ** (-0.5 if kind == "skewed" else 0.0)
  semantic = np.searchsorted(
    np.cumsum(weight / weight.sum())[:-1],
    rng.random((items, LEVELS), np.float32),
  ).astype(np.int32)
  return assign_rec_ids(semantic, size, np.zeros(items, np.int32))


class Form(NamedTuple):
  """A built form of the prefixes.

  ask: (prefixes as `prepare` gives them, their length) -> bool [n, L].
  prepare: (item rows [n], length) -> the items' prefixes as this form sees
    them; beams carry these along, so they are not timed.
  """

  ask: Callable[[Any, int], jax.Array]
  prepare: Callable[[np.ndarray, int], Any]
  mask_bytes: int
  catalogue_bytes: int


def trie_form(rec_ids: RecIds, form: str) -> Form:
  """Ours: a prefix is a node number."""
  trie = jax.block_until_ready(build_trie(rec_ids, form))
  children = jax.jit(lambda trie, node: trie.children(node))
  path = jax.jit(lambda trie, item: trie.path(item))
  return Form(
    lambda node, length: children(trie, node),
    lambda items, length: path(trie, jnp.asarray(items))[:, length],
    trie.mask_bytes(),
    trie.catalogue_bytes(),
  )


def search_form(rec_ids: RecIds) -> Form:
  """Sorted lists of all prefixes; every continuation is searched for."""
  L, tokens = rec_ids.vocabulary[0], rec_ids.tokens_IxM[:, :LEVELS]
  place = lambda length: L ** np.arange(length)[::-1]
  key = lambda rows, length: (rows[:, :length] * place(length)).sum(axis=1)
  sorted_by_length = []
  for length in range(1, LEVELS + 1):
    ordered = key(tokens, length)[rec_ids.lexicographic_order]
    new = np.diff(ordered, prepend=-1) > 0
    sorted_by_length.append(jnp.asarray(ordered[new], jnp.int32))

  @jax.jit
  def search(keys, key_n):
    wanted = key_n[:, None] * L + jnp.arange(L)[None]
    found = jnp.searchsorted(keys, wanted)
    return keys[jnp.minimum(found, len(keys) - 1)] == wanted

  return Form(
    lambda key_n, length: search(sorted_by_length[length], key_n),
    lambda items, length: jnp.asarray(key(tokens[items], length), jnp.int32),
    sum(keys.nbytes for keys in sorted_by_length),
    0,
  )


def hash_form(rec_ids: RecIds) -> Form:
  """A Python dictionary: prefix -> the set of tokens that may follow."""
  L, tokens = rec_ids.vocabulary[0], rec_ids.tokens_IxM[:, :LEVELS]
  follow = collections.defaultdict(set)
  for row in zip(*(column.tolist() for column in tokens.T), strict=True):
    for length in range(LEVELS):
      follow[row[:length]].add(row[length])

  def ask(prefixes, length):
    mask = np.zeros((len(prefixes), L), bool)
    for row, prefix in zip(mask, prefixes, strict=True):
      row[list(follow[prefix])] = True
    return jnp.asarray(mask)

  entries = sum(sys.getsizeof(k) + sys.getsizeof(s) for k, s in follow.items())
  return Form(
    ask,
    lambda items, length: list(map(tuple, tokens[items, :length].tolist())),
    sys.getsizeof(follow) + entries,
    0,
  )


FORMS: dict[str, Callable[[RecIds], Form]] = {
  "packed bits": lambda rec_ids: trie_form(rec_ids, "packed"),
  "dense table": lambda rec_ids: trie_form(rec_ids, "dense"),
  "binary search": search_form,
  "Python hash": hash_form,
}


def forget_peak() -> None:
  """Sets `peak_bytes` back to the present size, where the kernel lets it."""
  with contextlib.suppress(OSError):
    Path("/proc/self/clear_refs").write_text("5")


def build_cost(name: str, path: Path) -> dict[str, Any]:
  """Builds one form from sorted Rec-IDs, in a process of its own."""
  rec_ids = load_rec_ids(path)
  jnp.zeros(1).block_until_ready()  # JAX's own start
  forget_peak()  # that of reading and checking
  before, start = peak_bytes(), time.perf_counter()
  form = FORMS[name](rec_ids)
  seconds, after = time.perf_counter() - start, peak_bytes()
  return {
    "build_seconds": seconds,
    "build_peak_mb": (after - before) / 2**20,
    "mask_bytes": form.mask_bytes,
    "catalogue_bytes": form.catalogue_bytes,
  }


def build_costs(rec_ids: RecIds) -> dict[str, dict[str, Any]]:
  context = multiprocessing.get_context("spawn")
  costs = {}
  with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "recids.npz"
    save_rec_ids(rec_ids, path)
    for name in FORMS:
      with context.Pool(1) as pool:
        costs[name] = pool.apply(build_cost, (name, path))
  return costs


def print_costs(costs: dict[str, dict[str, Any]]) -> None:
  for name, cost in costs.items():
    print(
      f"  {name}: built in {cost['build_seconds']:.2f} s,"
      f" +{cost['build_peak_mb']:.0f} MB at its peak; masks"
      f" {cost['mask_bytes'] / 1e6:.2f} MB, rows of items"
      f" {cost['catalogue_bytes'] / 1e6:.2f} MB",
      flush=True,
    )


def measure_catalogue(run: Run, kind: str, items: int, size: int) -> None:
  """One catalogue: what each form costs, that all agree, how fast they are."""
  case = f"{kind} {items}"
  start = time.perf_counter()
  rec_ids = make_rec_ids(kind, items, size)
  seconds = time.perf_counter() - start
  print(f"{case}: Rec-IDs made, sorted and checked in {seconds:.2f} s")
  # Only the headline's pass keeps its numbers: one thread, or a GPU's only one.
  if run.one_thread or jax.default_backend() != "cpu":
    costs = build_costs(rec_ids)
    print_costs(costs)
    run.numbers[case] = {
      "rec_ids_seconds": seconds,
      "last_vocabulary": rec_ids.vocabulary[-1],
      "forms": costs,
    }

  beams = 6 if run.small else USERS * BEAMS
  asked = np.random.default_rng(1).integers(0, items, beams, dtype=np.int32)
  contestants, shallow = [], {}
  for name, build in FORMS.items():
    form = build(rec_ids)
    shallow[name] = [
      np.asarray(form.ask(form.prepare(asked, length), length))
      for length in range(LEVELS - 1)
    ]
    deepest = form.prepare(asked, LEVELS - 1)
    answer = lambda form=form, deepest=deepest: form.ask(
      deepest, LEVELS - 1
    ).block_until_ready()
    contestants.append(Contestant(name, answer))
  results = run.measure(case, contestants, ours="packed bits")
  for name in FORMS:
    masks = [*shallow[name], np.asarray(results[name])]
    ours = [*shallow["packed bits"], np.asarray(results["packed bits"])]
    wrong = sum((a != b).sum() for a, b in zip(masks, ours, strict=True))
    run.agree(f"{case}/{name}: tokens that differ", wrong, at_most=0)


def measure(run: Run) -> None:
  sizes, L = (SMALL_SIZES, 16) if run.small else (SIZES, 256)
  run.numbers["semantic_size"] = L
  run.numbers["beams"] = 6 if run.small else USERS * BEAMS
  for kind in ("uniform", "skewed"):
    for items in sizes:
      measure_catalogue(run, kind, items, L)


def plot(merged: dict[str, Any], path: Path) -> None:
  sizes = SMALL_SIZES if merged["small"] else SIZES
  x_of_case = {f"uniform {items}": float(items) for items in sizes}
  report.lines(merged, path, x_of_case, "items")


if __name__ == "__main__":
  main("trie", measure, plot)
