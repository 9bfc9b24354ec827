"""PyTorch's side of the benchmark `models`: a LightGCN step."""

import warnings
from collections.abc import Callable

import jax
import numpy as np

from mmgrec_jax.data.dataset import TRAIN, Dataset


class TorchLightGCN:
  """LightGCN as its authors train it, on one batch of triples."""

  def __init__(self, torch, config, data, table, triples):
    on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    self.torch, self.l2 = torch, config.model.l2
    self.layers, self.U = config.model.layers, data.n_users
    self.device = "cuda" if on_gpu else "cpu"
    self.propagate = self._propagation(data)
    self.table = torch.tensor(table, device=self.device, requires_grad=True)
    rate = config.model.optimizer.learning_rate
    self.optimizer = torch.optim.Adam([self.table], lr=rate)
    (negative_B,) = triples.negative_BxJ.T
    parts = (triples.user_B, triples.positive_B, negative_B)
    self.triples = [
      torch.tensor(np.asarray(part, np.int64), device=self.device)
      for part in parts
    ]

  def _propagation(self, data: Dataset) -> Callable:
    """h -> D^-1/2 A D^-1/2 h."""
    torch, n = self.torch, data.n_users + data.n_items
    user_E, item_E = data.edges(TRAIN)
    ends = np.stack([user_E, item_E + data.n_users]).astype(np.int64)
    row_E, column_E = np.concatenate([ends, ends[::-1]], axis=1)
    order = np.lexsort((column_E, row_E))
    row_E, column_E = row_E[order], column_E[order]
    scale_N = np.maximum(np.bincount(row_E, minlength=n), 1) ** -0.5
    offset = np.searchsorted(row_E, np.arange(n + 1))
    values_E = (scale_N[row_E] * scale_N[column_E]).astype(np.float32)
    with warnings.catch_warnings():
      warnings.filterwarnings("ignore", ".*Sparse CSR.*")
      matrix = torch.sparse_csr_tensor(
        *map(torch.from_numpy, (offset, column_E, values_E)),
        size=(n, n),
        check_invariants=False,
      ).to(self.device)

    class Symmetric(torch.autograd.Function):
      @staticmethod
      def forward(ctx, h):
        return matrix @ h

      @staticmethod
      def backward(ctx, g):
        return matrix @ g

    return Symmetric.apply

  def loss(self):
    layers = [self.table]
    for _ in range(self.layers):
      layers.append(self.propagate(layers[-1]))
    mean = self.torch.stack(layers).mean(dim=0)
    user, positive, negative = self.triples
    rows = [user, positive + self.U, negative + self.U]
    h_user, h_pos, h_neg = (mean[r] for r in rows)
    margin = (h_user * (h_pos - h_neg)).sum(dim=1)
    l2 = sum(0.5 * (self.table[r] ** 2).sum(dim=1) for r in rows)
    return (self.torch.nn.functional.softplus(-margin) + self.l2 * l2).mean()

  def loss_and_gradient(self) -> tuple[float, np.ndarray]:
    loss = self.loss()
    (gradient,) = self.torch.autograd.grad(loss, self.table)
    return float(loss.detach()), gradient.cpu().numpy()

  def step(self) -> None:
    self.optimizer.zero_grad()
    self.loss().backward()
    self.optimizer.step()
    if self.device == "cuda":
      self.torch.cuda.synchronize()
