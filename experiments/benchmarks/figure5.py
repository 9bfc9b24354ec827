"""Time to recommend against catalogue size: generating, and searching (Fig. 5).

Command: python -m experiments.benchmarks.figure5 --out=runs/benchmarks

Ours generates 10 items with a beam of 10 from a history of 32; its weights are
random, which does not change its work. Matrix factorisation (MF) ranks all
items by inner product: exactly, or approximately by an inverted file (IVF) that
looks into as few lists as give recall@10 of .95. Its vectors are drawn around
1,000 centres; NOISE is how far they spread around one, over how far the centres
do. An index's speed depends on nothing as much: at 86,483 items it reads 2
lists of 1,024 with NOISE 1, about 64 with 1.2 and half of them with 2. All
leave out the 32 items seen. A call is for 64 users, exact search of 10 million
items for 8. A ratio below 1 means that MF is faster: it is, up to some size.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import report
from experiments.benchmarks.harness import Contestant, Run, main
from experiments.benchmarks.trie import make_rec_ids
from mmgrec_jax.decoding.generate import generate
from mmgrec_jax.decoding.trie import build_trie
from mmgrec_jax.evaluation.ranking import rank_by_inner_product
from mmgrec_jax.models.generator import Generator, Vectors
from mmgrec_jax.recid.assign import RecIds

KWAI = 86_483
SIZES = (KWAI // 16, KWAI // 4, KWAI, 1_000_000, 10_000_000)
SMALL_SIZES = (1_000, 4_000)
K, HISTORY, USERS = 10, 32, 64
NOISE = 1.2
# Exact search of 10 million items has scores of 40 MB a user.
USERS_AT_MOST = {10_000_000: 8}
RECALL = 0.95


def make_vectors(items: int, width: int) -> Vectors:
  """Of users and items, around the same centres."""
  rng = np.random.default_rng(0)
  centre_CxD = rng.standard_normal((1_000, width), np.float32)

  def draw(n):
    h_nxD = np.empty((n, width), np.float32)
    for part in np.array_split(h_nxD, -(-n // 1_000_000)):  # views
      rng.standard_normal(out=part, dtype=np.float32)
      part *= NOISE
      part += centre_CxD[rng.integers(0, len(centre_CxD), len(part))]
    return jnp.asarray(h_nxD)

  return Vectors(draw(USERS), draw(items))


def make_histories(items: int) -> np.ndarray:
  """HISTORY different items for each user, int32."""
  rng = np.random.default_rng(1)
  rows = [rng.choice(items, HISTORY, replace=False) for _ in range(USERS)]
  return np.stack(rows).astype(np.int32)


def our_way(
  rec_ids: RecIds, vectors: Vectors, history_BxN: np.ndarray, small: bool
) -> Callable[[], np.ndarray]:
  """Generates for all users; int32 [B, K]."""
  width, heads, layers = (8, 2, 1) if small else (64, 4, 2)
  model = Generator(
    rec_ids.vocabulary,
    n_items=len(vectors.item_IxD),
    width=width,
    encoder_layers=layers,
    decoder_layers=layers,
    heads=heads,
    encoder_head_width=width,
    decoder_head_width=width,
    feed_forward=width,
  )
  trie = build_trie(rec_ids)
  user_B, seen_BxN = jnp.arange(len(history_BxN)), jnp.asarray(history_BxN)
  tokens_BxTxM = trie.tokens(seen_BxN[:1, :1])

  @jax.jit
  def init(key, vectors):
    return model.init(
      key, vectors, user_B[:1], seen_BxN[:1], tokens_BxTxM, train=False
    )["params"]

  @jax.jit
  def recommend(params, vectors, trie):
    return generate(model, params, vectors, trie, user_B, seen_BxN, HISTORY, K)[
      0
    ]

  params = init(jax.random.key(0), vectors)
  return lambda: np.asarray(recommend(params, vectors, trie))


def jax_exact(vectors: Vectors, history_BxN: np.ndarray) -> Callable:
  rank = jax.jit(rank_by_inner_product, static_argnums=4)
  seen_BxN, user_B = jnp.asarray(history_BxN), jnp.arange(len(history_BxN))
  return lambda: np.asarray(
    rank(vectors.user_UxD, vectors.item_IxD, user_B, seen_BxN, K)[0]
  )


def numpy_exact(
  h_user_BxD: np.ndarray, h_item_IxD: np.ndarray, history_BxN: np.ndarray
) -> Callable:
  def search():
    score_BxI = h_user_BxD @ h_item_IxD.T
    np.put_along_axis(score_BxI, history_BxN, -np.inf, axis=1)
    top_BxK = np.argpartition(score_BxI, -K, axis=1)[:, -K:]
    order = np.argsort(-np.take_along_axis(score_BxI, top_BxK, axis=1))
    return np.take_along_axis(top_BxK, order, axis=1)

  return search


def without_seen(found_BxF: np.ndarray, history_BxN: np.ndarray) -> np.ndarray:
  """The first K that are not in the history; enough must be given."""
  seen_BxF = (found_BxF[:, :, None] == history_BxN[:, None]).any(axis=-1)
  unseen_first = np.argsort(seen_BxF, axis=1, kind="stable")
  return np.take_along_axis(found_BxF, unseen_first[:, :K], axis=1)


def faiss_exact(
  faiss: Any,
  h_user_BxD: np.ndarray,
  h_item_IxD: np.ndarray,
  history_BxN: np.ndarray,
) -> Callable:
  """What IndexFlatIP calls, without its copy of the items."""
  metric = faiss.METRIC_INNER_PRODUCT

  def search():
    found = faiss.knn(h_user_BxD, h_item_IxD, K + HISTORY, metric=metric)[1]
    return without_seen(found, history_BxN)

  return search


def recall(found_BxK: np.ndarray, exact_BxK: np.ndarray) -> float:
  """Share of the exact lists that is found."""
  return float(
    (found_BxK[:, :, None] == exact_BxK[:, None]).any(axis=-1).mean()
  )


def faiss_ivf(
  faiss: Any,
  h_user_BxD: np.ndarray,
  h_item_IxD: np.ndarray,
  history_BxN: np.ndarray,
  exact_BxK: np.ndarray,
) -> tuple[Callable, dict[str, Any]]:
  """Builds it and looks into 1, 2, 4, … lists until that is enough."""
  items, width = h_item_IxD.shape
  lists = min(4096, 2 ** int(np.log2(items / 64)))
  metric = faiss.METRIC_INNER_PRODUCT
  index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, metric)
  index.cp.max_points_per_centroid = 64
  start = time.perf_counter()
  # Items are in no order, so any of them are a sample.
  index.train(h_item_IxD[: 64 * lists])
  index.add(h_item_IxD)
  built = time.perf_counter() - start

  def search():
    return without_seen(index.search(h_user_BxD, K + HISTORY)[1], history_BxN)

  while recall(search(), exact_BxK) < RECALL and index.nprobe < lists:
    index.nprobe *= 2
  print(
    f"IVF of {items} items: {lists} lists, {index.nprobe} read,"
    f" built in {built:.1f} s"
  )
  return search, {
    "lists": lists,
    "lists_read": index.nprobe,
    "build_seconds": built,
  }


def check_ours(run: Run, name: str, found_BxK, history_BxN, items: int) -> None:
  """Real, different, unseen items: random weights allow no more."""
  ordered = np.sort(found_BxK, axis=1)
  wrong = (
    (found_BxK < 0) | (found_BxK >= items),
    ordered[:, 1:] == ordered[:, :-1],
    (found_BxK[:, :, None] == history_BxN[:, None]).any(axis=-1),
  )
  run.agree(f"{name}: wrong items", sum(w.sum() for w in wrong), at_most=0)


def measure_items(run: Run, items: int, faiss: Any) -> Callable:
  """One catalogue size; what generates there, to be timed once more."""
  case = f"{items} items"
  codes = 32 if run.small else 256
  vectors = make_vectors(items, 8 if run.small else 64)
  rec_ids = make_rec_ids("uniform", items, codes)
  history_BxN = make_histories(items)
  ours = our_way(rec_ids, vectors, history_BxN, run.small)
  few = USERS_AT_MOST.get(items, USERS)
  exact = {"MF, exact, jax": jax_exact(vectors, history_BxN[:few])}
  contestants = [Contestant("ours", ours, USERS)]
  # On a GPU only what runs there is worth comparing.
  if jax.default_backend() == "cpu":
    h_user_BxD = np.asarray(vectors.user_UxD)
    h_item_IxD = np.asarray(vectors.item_IxD)  # the same memory
    some = (h_user_BxD[:few], h_item_IxD, history_BxN[:few])
    exact["MF, exact, numpy"] = numpy_exact(*some)
    if faiss is not None:
      exact["MF, exact, faiss"] = faiss_exact(faiss, *some)
      everyone = (h_user_BxD, h_item_IxD, history_BxN)
      truth_BxK = faiss_exact(faiss, *everyone)()
      ivf, facts = faiss_ivf(faiss, *everyone, truth_BxK)
      run.numbers[f"{case}, IVF"] = facts
      contestants.append(Contestant("MF, IVF, faiss", ivf, USERS))
  contestants += [Contestant(n, search, few) for n, search in exact.items()]

  results = run.measure(case, contestants, ours="ours")
  check_ours(run, f"{case}/ours", results["ours"], history_BxN, items)
  for name in exact:
    share = recall(results[name], results["MF, exact, jax"])
    run.agree(f"{case}/{name}: shared items", share, at_least=0.99)
  if faiss is not None and "MF, IVF, faiss" in results:
    share = recall(results["MF, IVF, faiss"], truth_BxK)
    run.agree(f"{case}/MF, IVF, faiss: recall@10", share, at_least=RECALL)
  for contestant in contestants[1:]:
    ratio = statistics.median(run.ratios[f"{case}/{contestant.name}"])
    if ratio < 1:
      print(f"  {contestant.name} is faster than ours here: {ratio:.2g}")
  return ours


def measure(run: Run) -> None:
  sizes = SMALL_SIZES if run.small else SIZES
  faiss = run.optional("faiss")
  if faiss is not None and run.one_thread:
    faiss.omp_set_num_threads(1)
  ours = {}
  base = sizes[0] if run.small else KWAI
  for items in sizes:
    generates = measure_items(run, items, faiss)
    if items in (base, sizes[-1]):
      ours[items] = generates
  run.measure(
    "ours as the catalogue grows",
    [
      Contestant(f"{n} items", generates, USERS)
      for n, generates in ours.items()
    ],
    ours=f"{base} items",
  )
  run.numbers["users"], run.numbers["sizes"] = USERS, sizes


def plot(merged: dict[str, Any], path: Path) -> None:
  x_of_case = {f"{items} items": float(items) for items in merged["sizes"]}
  report.lines(merged, path, x_of_case, "items in the catalogue")


if __name__ == "__main__":
  main("figure5", measure, plot)
