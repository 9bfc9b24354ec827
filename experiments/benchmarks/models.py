"""What a training step of every baseline costs, in time and in memory.

Command: python -m experiments.benchmarks.models --out=runs/benchmarks

- models: steps of all models of the table at one batch size, at MovieLens'
  size (61k nodes, 2.0M directed edges); `ratios` are to LightGCN. Where the
  first step of an epoch does more (LATTICE's graph), `epochs` counts it once.
- lightgcn: the same LightGCN step beside PyTorch's, whose propagation is a
  product with a sparse CSR matrix, used as symmetric in the backward pass.
  Loss and gradient are checked to agree. PyTorch is given its negatives, ours
  draws them.
- memory: one step of each model at Kwai's size, in a process of its own, with
  features of the paper's widths (its Table 1).
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import graph
from experiments.benchmarks.graph import Size, made_up_interactions
from experiments.benchmarks.harness import Contestant, Run, main, timed
from experiments.benchmarks.machine import peak_bytes
from experiments.benchmarks.models_torch import TorchLightGCN
from mmgrec_jax import config as configs
from mmgrec_jax.data.dataset import TRAIN, Dataset
from mmgrec_jax.models import collaborative as cf
from mmgrec_jax.models.table import MODELS, build_model, objective_of
from mmgrec_jax.stages.collaborative import make_inputs
from mmgrec_jax.training import parallel
from mmgrec_jax.training.collaborative import collaborative_task, draw_triples
from mmgrec_jax.training.loop import Task

STEPS = 2  # that JAX compiles into one program
LIMIT_GIB = 4


class Case(NamedTuple):
  size: Size
  widths: Mapping[str, int]  # of features
  batch: int


FULL = {
  "movielens": Case(
    graph.SIZES["movielens"],
    {"visual": 2048, "acoustic": 128, "text": 100},
    2048,
  ),
  "kwai": Case(graph.SIZES["kwai"], {"visual": 2048, "text": 128}, 2048),
}
SMALL = {
  name: Case(Size(60, 90, 700, 0.7), {"visual": 12, "text": 5}, 64)
  for name in FULL
}


def chosen(run: Run) -> tuple[str, ...]:
  """All models; a few of each kind where only the code is tried."""
  return ("mf", "lightgcn", "lattice") if run.small else tuple(MODELS)


def made_up_data(case: Case) -> Dataset:
  """Interactions with skewed degrees, all of them training; random features."""
  size, rng = case.size, np.random.default_rng(0)
  user_E, item_E = made_up_interactions(size, rng)
  idle = np.setdiff1d(np.arange(size.n_users), user_E)  # must have something
  user_E = np.concatenate([user_E, idle]).astype(np.int32)
  of_idle = rng.integers(0, size.n_items, len(idle))
  return Dataset(
    name="made up",
    user_E=user_E,
    item_E=np.concatenate([item_E, of_idle]).astype(np.int32),
    split_E=np.full(len(user_E), TRAIN, np.int8),
    features={
      name: rng.standard_normal((size.n_items, width), np.float32)
      for name, width in case.widths.items()
    },
    user_ids=np.arange(size.n_users),
    item_ids=np.arange(size.n_items),
  )


def config_of(name: str, case: Case) -> configs.Config:
  """A model's defaults, but with the batch that all share."""
  config = configs.default_config(name)
  config.model.batch_size = case.batch
  return config


def make_task(config: configs.Config, inputs: cf.Inputs) -> Task:
  return collaborative_task(
    config.system, build_model(config), inputs, config.model,
    lambda params: 0.0, jax.random.key(0), objective_of(config),
  )  # fmt: skip


def steps_of(task: Task, first: int, n: int) -> Callable[[], Any]:
  """Does `n` steps from the step `first` of an epoch. Returns their metrics."""
  state = task.init().replace(step=jnp.int32(first))  # type: ignore
  planned = jax.jit(task.plan)(task.data, jax.random.key(1))

  @jax.jit
  def steps(state, data, planned):
    def body(state, _):
      key = jax.random.fold_in(jax.random.key(2), state.step)
      return task.step(state, data, planned, key)

    return jax.lax.scan(body, state, None, length=n)

  return lambda: jax.block_until_ready(steps(state, task.data, planned))


def every_model(run: Run, case: Case, data: Dataset) -> None:
  """Steps of all models, and what a whole epoch takes beside LightGCN's."""
  firsts, contestants = {}, []
  for name in chosen(run):
    config = config_of(name, case)
    task = make_task(config, make_inputs(config, data))
    firsts[name] = task.steps_per_epoch, steps_of(task, first=0, n=1)
    others = steps_of(task, first=1, n=STEPS)
    contestants.append(Contestant(name, others, STEPS))
  run.measure("models", contestants, "lightgcn")

  epoch_ms = {}
  for name, (steps, first) in firsts.items():
    first()  # compiles
    _, ms = timed(first, 1)
    step_ms = statistics.median(run.times[f"models/{name}"][run.clock])
    epoch_ms[name] = ms[run.clock] + (steps - 1) * step_ms
  run.numbers["epochs"] = {
    name: {"seconds": ms / 1e3, "to_lightgcn": ms / epoch_ms["lightgcn"]}
    for name, ms in epoch_ms.items()
  }
  for name, epoch in run.numbers["epochs"].items():
    print(
      f"  an epoch of {name}: {epoch['seconds']:.3g} s,"
      f" {epoch['to_lightgcn']:.3g} times LightGCN's"
    )


def against_torch(run: Run, case: Case, data: Dataset, torch: Any) -> None:
  """LightGCN's step beside PyTorch's, with the same first triples."""
  config = config_of("lightgcn", case)
  config.model.update(loss="bpr", negatives=1)  # as its authors train it
  inputs = make_inputs(config, data)
  task = make_task(config, inputs)
  contestants = [Contestant("ours", steps_of(task, 1, STEPS), STEPS)]
  if torch is not None:
    table = task.init().params["embedding"]
    triples = draw_triples(
      jax.random.key(3),
      inputs.interactions,
      jnp.arange(case.batch),
      config.model.negatives,
    )
    theirs = TorchLightGCN(torch, config, data, np.asarray(table), triples)
    loss, gradient = loss_and_gradient(config, inputs, table, triples)
    their_loss, their_gradient = theirs.loss_and_gradient()
    size = np.abs(their_gradient).max()
    worst = np.abs(gradient - their_gradient).max() / size
    run.agree("lightgcn/loss", abs(loss / their_loss - 1), at_most=1e-5)
    run.agree("lightgcn/gradient", worst, at_most=1e-4)
    contestants.append(Contestant("torch CSR", theirs.step))
  run.measure("lightgcn", contestants, "ours")


def loss_and_gradient(
  config: configs.Config, inputs: cf.Inputs, table: jax.Array, triples
) -> tuple[float, np.ndarray]:
  """Of the mean loss, as a training step has them."""
  model = build_model(config)

  @jax.jit
  def both(table, inputs, triples):
    def mean_loss(table):
      embedded: Any = model.apply(
        {"params": {"embedding": table}}, inputs, triples.user_B, train=True
      )
      total, _ = cf.ranking_objective(embedded, inputs, triples, config.model)
      return total / len(triples.user_B)

    return jax.value_and_grad(mean_loss)(table)

  loss, gradient = both(table, inputs, triples)
  return float(loss), np.asarray(gradient)


def memory_of_one(name: str, small: bool) -> dict[str, float]:
  """Trains a step of a model. GiB of the program and of this process."""
  case = (SMALL if small else FULL)["kwai"]
  config, data = config_of(name, case), made_up_data(case)
  task = make_task(config, make_inputs(config, data))
  steps = parallel.run_steps(task.step, task.plan, task.steps_per_epoch)
  state = parallel.replicate(jax.device_get(task.init()))
  arguments = (state, parallel.replicate(task.data), jax.random.key(1), 1)
  program = parallel.memory(steps, *arguments)
  before = peak_bytes()
  jax.block_until_ready(steps(*arguments))
  return {
    "program_gib": program / 2**30,
    "process_before_gib": before / 2**30,
    "process_gib": peak_bytes() / 2**30,
  }


def memory_of_all(run: Run) -> None:
  """One process a model. Says which need more than the limit."""
  found = {}
  for name in chosen(run):
    module = "experiments.benchmarks.models"
    command = [sys.executable, "-m", module, f"--memory={name}"]
    child = subprocess.run(
      command + ["--small"] * run.small, stdout=subprocess.PIPE, text=True
    )
    if child.returncode:
      sys.exit(child.returncode)  # it has said why
    found[name] = json.loads(child.stdout.splitlines()[-1])
    print(
      f"  memory of {name}: {found[name]['program_gib']:.3g} GiB, with the"
      f" process {found[name]['process_gib']:.3g} GiB",
      flush=True,
    )
  over = [n for n, gib in found.items() if gib["process_gib"] > LIMIT_GIB]
  print(f"  more than {LIMIT_GIB} GiB: {', '.join(over) or 'none'}")
  run.numbers["memory"] = found
  run.numbers["over_the_limit"] = over


def measure(run: Run) -> None:
  case = (SMALL if run.small else FULL)["movielens"]
  data = made_up_data(case)
  torch = run.optional("torch")
  with jax.default_matmul_precision("float32"):
    against_torch(run, case, data, torch)
    every_model(run, case, data)
  if run.one_thread or jax.default_backend() != "cpu":
    memory_of_all(run)  # the headline's pass is enough


if __name__ == "__main__":
  asked = [a.partition("=")[2] for a in sys.argv if a.startswith("--memory=")]
  if asked:
    print(json.dumps(memory_of_one(asked[0], "--small" in sys.argv)))
  else:
    main("models", measure)
