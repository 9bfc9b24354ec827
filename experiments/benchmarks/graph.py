"""Two graph convolutions, forward and backward, and an SGD step.

Synthetic graphs of the size and skew of Kwai's and MovieLens' training sets;
width 128 -> 128 -> 64, all f32. As in training, JAX compiles several steps into
one program. All but ours apply the weights before the mean, so that neighbours
of width 64 are gathered in the second layer.

- torch index_add: gathers a message for each edge and adds it to its receiver,
  as PyG does; degrees counted once
- torch CSR: adjacency as a sparse matrix, its symmetry used in the backward
- jraph segment mean: `mmgrec_jax` with config.graph=segment
- ours: config.graph=ell; rows of neighbours, gathered in the backward
  too, and weights applied on the side of the graph with fewer nodes
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.harness import Contestant, Run, main
from mmgrec_jax.graph import Graph, bipartite_graph
from mmgrec_jax.nn.graph_conv import GraphConv

STEPS = 4  # that JAX compiles into one program
LEARNING_RATE = 1e-6  # small: the time of a step must not change with it
SLOPE = 0.01  # of LeakyReLU


class Size(NamedTuple):
  """Of a training set; items' popularity falls with their rank^-skew."""

  n_users: int
  n_items: int
  interactions: int
  skew: float


SIZES = {
  "kwai": Size(7_010, 86_483, 238_794, 0.7),
  "movielens": Size(55_485, 5_986, 991_606, 0.9),
}
SMALL = {"small": Size(60, 90, 700, 0.7)}


def made_up_interactions(
  size: Size, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
  """Distinct (user, item): log-normal users, power-law items. int [E] each."""
  user_p = rng.lognormal(0, 0.8, size.n_users)
  item_p = rng.permutation((np.arange(size.n_items) + 10.0) ** -size.skew)
  pairs = np.zeros(0, np.int64)
  while len(pairs) < size.interactions:
    user = rng.choice(size.n_users, size.interactions, p=user_p / user_p.sum())
    item = rng.choice(size.n_items, size.interactions, p=item_p / item_p.sum())
    pairs = np.unique(np.concatenate([pairs, user * size.n_items + item]))
  return np.divmod(rng.permutation(pairs)[: size.interactions], size.n_items)


def start(nodes: int, rng: np.random.Generator) -> list[np.ndarray]:
  """h [N, 128], then W1 and W2 of both layers; last, the loss's weights."""
  shapes = [(nodes, 128), (128, 128), (128, 128), (128, 64), (128, 64)]
  scale = lambda shape: shape[0] ** -0.5 if shape[0] == 128 else 1.0
  return [
    (scale(shape) * rng.normal(size=shape)).astype(np.float32)
    for shape in [*shapes, (nodes, 64)]
  ]


def two_layers(graph: Graph, h_Nx128: jax.Array, weights: list) -> jax.Array:
  """[N, 64], by the package's own layer."""
  w1, w2, w3, w4 = weights
  layer = lambda width, h, a, b: GraphConv(width).apply(
    {"params": {"W1": {"kernel": a}, "W2": {"kernel": b}}}, graph, h
  )
  h: Any = jax.nn.leaky_relu(layer(128, h_Nx128, w1, w2), SLOPE)  # pyright: ignore
  return layer(64, h, w3, w4)  # pyright: ignore


def with_jax(arrays: list[np.ndarray], graph: Graph) -> tuple[Callable, list]:
  """STEPS steps to time, and the first one's output and gradients."""
  *parameters, target = [jnp.asarray(a) for a in arrays]

  def gradients(parameters, target, graph):
    def loss(parameters):
      h_Nx64 = two_layers(graph, parameters[0], parameters[1:])
      return (h_Nx64 * target).sum(), h_Nx64

    (_, h_Nx64), gradient = jax.value_and_grad(loss, has_aux=True)(parameters)
    return h_Nx64, gradient

  @jax.jit
  def steps(parameters, target, graph):
    def step(parameters, _):
      _, gradient = gradients(parameters, target, graph)
      update = lambda p, g: p - LEARNING_RATE * g
      return jax.tree.map(update, parameters, gradient), None

    return jax.lax.scan(step, parameters, None, length=STEPS)[0]

  h_Nx64, gradient = jax.jit(gradients)(parameters, target, graph)
  run = lambda: jax.block_until_ready(steps(parameters, target, graph))
  return run, [h_Nx64, *gradient]


def torch_means(torch, segment: Any, device: str) -> dict[str, Callable]:
  """Two ways to average over neighbours: h [N, D] -> [N, D]."""
  on_device = lambda a: torch.tensor(np.asarray(a, np.int64), device=device)
  senders_E, receivers_E = (
    on_device(segment.senders),
    on_device(segment.receivers),
  )
  n = int(segment.n_node[0])
  degree_N = torch.bincount(receivers_E, minlength=n)
  degree_Nx1 = degree_N.clamp(min=1).float()[:, None]
  offset = torch.nn.functional.pad(degree_N.cumsum(0), (1, 0))
  ones_E = torch.ones(len(senders_E), device=device)
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", ".*Sparse CSR.*")
    matrix = torch.sparse_csr_tensor(
      offset, senders_E, ones_E, (n, n), check_invariants=False
    )

  class SymmetricMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h):
      return (matrix @ h) / degree_Nx1

    @staticmethod
    def backward(ctx, g):
      return matrix @ (g / degree_Nx1)

  def scattered(h):
    total = torch.zeros_like(h).index_add(0, receivers_E, h[senders_E])
    return total / degree_Nx1

  return {"torch index_add": scattered, "torch CSR": SymmetricMean.apply}


def with_torch(
  torch, arrays: list[np.ndarray], mean: Callable, device: str
) -> tuple[Callable, list]:
  """A step to time, and the first one's output and gradients."""
  *parameters, target = [torch.tensor(a, device=device) for a in arrays]
  for p in parameters:
    p.requires_grad_()

  def gradients():
    h, w1, w2, w3, w4 = parameters
    h = torch.nn.functional.leaky_relu(h @ w1 + mean(h @ w2), SLOPE)
    h = h @ w3 + mean(h @ w4)
    return h, torch.autograd.grad((h * target).sum(), parameters)

  def run():
    _, gradient = gradients()
    with torch.no_grad():
      for p, g in zip(parameters, gradient, strict=True):
        p.sub_(g, alpha=LEARNING_RATE)
    if device == "cuda":
      torch.cuda.synchronize()

  h, gradient = gradients()
  return run, [a.detach().cpu().numpy() for a in (h, *gradient)]


def one_graph(run: Run, name: str, size: Size, torch: Any) -> None:
  rng = np.random.default_rng(0)
  interactions = made_up_interactions(size, rng)
  of = lambda form: bipartite_graph(
    *interactions, size.n_users, size.n_items, form
  )
  segment: Any = of("segment")
  receivers_E = np.asarray(segment.receivers)
  degree_N = np.bincount(receivers_E, minlength=size.n_users + size.n_items)
  run.numbers.setdefault("graphs", {})[name] = {
    "nodes": len(degree_N),
    "directed_edges": len(receivers_E),
    "largest_degree": int(degree_N.max()),
  }
  arrays = start(len(degree_N), rng)
  built = {
    "ours": with_jax(arrays, of("ell")),
    "jraph segment mean": with_jax(arrays, segment),
  }
  if torch is not None:
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    for rival, mean in torch_means(torch, segment, device).items():
      built[rival] = with_torch(torch, arrays, mean, device)
  reference = [np.asarray(a) for a in built["jraph segment mean"][1]]
  for rival, (_, found) in built.items():
    differences = [
      np.abs(np.asarray(a) - b).max() / np.abs(b).max()
      for a, b in zip(found, reference, strict=True)
    ]
    run.agree(f"{name}/{rival}: output", differences[0], at_most=1e-4)
    run.agree(f"{name}/{rival}: gradient", max(differences[1:]), at_most=1e-4)
  run.measure(
    name,
    [
      Contestant(n, call, 1 if n.startswith("torch") else STEPS)
      for n, (call, _) in built.items()
    ],
    "ours",
  )


def measure(run: Run) -> None:
  torch = run.optional("torch")
  if torch and jax.default_backend() == "gpu" and not torch.cuda.is_available():
    print("This torch cannot use the GPU, so its contestants are left out.")
    run.left_out.append("torch")
    torch = None
  with jax.default_matmul_precision("float32"):
    for name, size in (SMALL if run.small else SIZES).items():
      one_graph(run, name, size, torch)


if __name__ == "__main__":
  main("graph", measure)
