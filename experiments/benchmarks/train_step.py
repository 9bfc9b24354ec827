"""A training step at equal targets per history: ours and PyTorch's.

Command: python -m experiments.benchmarks.train_step --out=runs/benchmarks

Sizes and optimiser are the reference's. T items cut out of one history share
its encoding, in PyTorch too: the reference's own trainer has T = 1. Both sides
predict the four tokens of a Rec-ID with a softmax over one vocabulary size, so
that the work is the same and gradients can be compared. Times are per target.
"""

import dataclasses
import shutil
import statistics
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import train_step_sides as sides
from experiments.benchmarks.harness import Contestant, Run, main
from experiments.benchmarks.train_step_sides import Batch, Sizes, TorchSide
from experiments.convert_torch import convert
from mmgrec_jax.models.generator import Generator
from mmgrec_jax.training.generating import GeneratorData, init_params

FULL = Sizes(
  *(86_483, 2_048, 254, 64, 4, 2, 32), {1: 256, 4: 256, 16: 64, 32: 32}, 1_000
)
SMALL = Sizes(*(200, 16, 14, 8, 2, 1, 4), {1: 4, 2: 2}, 8)


def check_agreement(
  run: Run, side: TorchSide, model: Generator, data: GeneratorData, T: int
) -> None:
  """Loss and every gradient are equal, relative to their size."""
  batch = sides.draw_batch(side.sizes, side.sizes.histories[T], T)
  state, their_loss, theirs = side.loss_and_gradient(batch)

  def loss(trained, frozen, data, folded):
    weights = trained | frozen
    params, vectors = convert(weights, model.vocabulary, model.heads)
    data = dataclasses.replace(data, vectors=vectors)
    still = model.clone(folded=folded, dropout=0.0)
    return sides.mean_loss(still, params, data, batch, None)

  trained = {name: state[name] for name in theirs}
  frozen = {name: w for name, w in state.items() if name not in theirs}
  for folded in (True, False):
    form = "folded" if folded else "plain"
    # On a GPU the default would round the factors of products.
    with jax.default_matmul_precision("highest"):
      our_loss, ours = jax.jit(jax.value_and_grad(loss), static_argnums=3)(
        trained, frozen, data, folded
      )
    run.agree(
      f"train/T={T}/loss, {form}", abs(our_loss / their_loss - 1), at_most=1e-5
    )
    size = lambda g: max(np.linalg.norm(g), 1e-12)  # it may be exactly 0
    worst = np.max(
      [np.linalg.norm(ours[n] - g) / size(g) for n, g in theirs.items()]
    )
    run.agree(f"train/T={T}/gradient, {form}", float(worst), at_most=1e-5)


def measure_targets(
  run: Run,
  side: TorchSide | None,
  ours: dict[str, Callable],
  batch: Batch,
  bfloat16: bool = False,
) -> None:
  """One number of targets a history: both forms of ours, and PyTorch's."""
  B, T = batch.target_BxT.shape
  contestants = [
    Contestant(name, step, items=B * T) for name, step in ours.items()
  ]
  if side is not None:
    eager = side.step(batch, compiled=False, bfloat16=bfloat16)
    contestants.append(Contestant("torch eager", eager, items=B * T))
    if not run.small and compiler_is_there(run):
      side.torch.compiler.reset()  # each T is a program of its own
      compiled = side.step(batch, compiled=True, bfloat16=bfloat16)
      contestants.append(Contestant("torch compiled", compiled, items=B * T))
  case = f"train/T={T}" + ", bfloat16" * bfloat16
  run.measure(case, contestants, ours="ours")


def compiler_is_there(run: Run) -> bool:
  """torch.compile writes C++ also where Python has all it needs."""
  found = any(shutil.which(name) for name in ("g++", "clang++"))
  if not found and "torch.compile" not in run.left_out:
    run.left_out.append("torch.compile")
    print("torch.compile is left out: there is no g++ or clang++")
  return found


def measure_best(
  run: Run, side: TorchSide | None, sizes: Sizes, ours: dict[int, Callable]
) -> None:
  """Ours at every T beside the reference's trainer; the fastest is the base."""
  contestants = [
    Contestant(f"ours T={T}", step, items=sizes.histories[T] * T)
    for T, step in ours.items()
  ]
  if side is not None:
    B = sizes.published_batch
    published = side.step(
      sides.draw_batch(sizes, B, 1), compiled=False, levels_only=False
    )
    contestants.append(Contestant("reference's trainer", published, items=B))
  median = lambda T: statistics.median(
    run.times[f"train/T={T}/ours"][run.clock]
  )
  best = min(ours, key=median)
  run.measure("train/best T", contestants, ours=f"ours T={best}")
  run.numbers["best_T"] = best


def measure(run: Run) -> None:
  sizes = SMALL if run.small else FULL
  rec_ids = sides.make_rec_ids(sizes)
  data, model = sides.make_data(sizes, rec_ids), sides.make_model(sizes)
  on_gpu = jax.default_backend() != "cpu"
  torch, side = run.optional("torch"), None
  if torch is not None:
    device = "cuda" if on_gpu and torch.cuda.is_available() else "cpu"
    side = TorchSide(torch, sizes, rec_ids.tokens_IxM, device)
    if run.one_thread or on_gpu:  # the headline's pass is enough
      check_agreement(run, side, model, data, max(sizes.histories))
    if device == "cuda":
      torch.set_float32_matmul_precision("high")  # JAX's default there
  batches = {
    T: sides.draw_batch(sizes, B, T) for T, B in sizes.histories.items()
  }
  params = init_params(model, data.vectors, jax.random.key(0))
  step = lambda model, T: sides.our_step(model, params, data, batches[T])
  # Kept for the last case: compiled once.
  ours = {T: step(model, T) for T in batches}
  for T, batch in batches.items():
    plain = step(model.clone(folded=False), T)
    steps = {"ours": ours[T], "ours, plain form": plain}
    measure_targets(run, side, steps, batch)
    if on_gpu:
      half = step(model.clone(dtype=jnp.bfloat16), T)
      measure_targets(run, side, {"ours": half}, batch, bfloat16=True)
  measure_best(run, side, sizes, ours)
  run.numbers["sizes"] = sizes._asdict()
  run.numbers["targets_per_second"] = {
    name: 1e3 / statistics.median(times[run.clock])
    for name, times in run.times.items()
  }


if __name__ == "__main__":
  main("train_step", measure)
