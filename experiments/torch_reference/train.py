# PyTorch is optional: types are checked where it is installed.
# pyright: reportMissingImports=false

"""Training the PyTorch reference: teacher forcing with its published SGD."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.torch_reference.model import TorchMMGRec

TrainStep = Callable[[Tensor, Tensor, Tensor], Tensor]


def make_optimizer(model: TorchMMGRec) -> torch.optim.Optimizer:
  """The published optimiser, for all that is not frozen."""
  trained = [p for p in model.parameters() if p.requires_grad]
  return torch.optim.SGD(trained, lr=1e-3, momentum=0.99, weight_decay=1e-5)


def token_loss(
  model: TorchMMGRec,
  user_B: Tensor,
  history_BxN: Tensor,
  tokens_BxTxM: Tensor,
  levels_only: bool = False,
) -> Tensor:
  """Mean cross-entropy over the tokens of T Rec-IDs a user; full softmax.

  Args:
    history_BxN: int64 items, counted from 0, -1 = padding, targets left out.
    tokens_BxTxM: int64. T = 1 is the published way.
    levels_only: predict the M tokens and not the E behind them.
  """
  inputs = F.pad(tokens_BxTxM, (1, 0), value=model.start_token)
  targets = F.pad(tokens_BxTxM, (0, 1), value=model.end_token)
  if levels_only:
    inputs, targets = inputs[..., :-1], targets[..., :-1]
  logits = model(user_B, history_BxN, inputs)
  return F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten())


def make_train_step(
  model: TorchMMGRec,
  optimizer: torch.optim.Optimizer,
  compiled: bool,
  levels_only: bool = False,
) -> TrainStep:
  """A step `(user_B, history_BxN, tokens_BxTxM) -> loss`, see `token_loss`.

  compiled: forward and backward by `torch.compile`, for one shape.
  """
  loss_fn = token_loss
  if compiled:
    loss_fn = torch.compile(token_loss, dynamic=False)

  def step(user_B: Tensor, history_BxN: Tensor, tokens_BxTxM: Tensor) -> Tensor:
    model.train()
    optimizer.zero_grad(set_to_none=True)
    loss = loss_fn(model, user_B, history_BxN, tokens_BxTxM, levels_only)
    loss.backward()
    optimizer.step()
    return loss.detach()

  return step
