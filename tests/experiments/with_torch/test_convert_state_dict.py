import numpy as np
import pytest
import torch

from experiments.convert_torch import read_state_dict
from mmgrec_jax.errors import UserError


class Code:
  """Pickled, it would call a function of its maker's choice when read."""

  def __reduce__(self):
    return print, ("code ran",)


def test_state_dict_is_read(tmp_path):
  layer = torch.nn.Linear(3, 2)
  torch.save(layer.state_dict(), tmp_path / "model.pt")
  found = read_state_dict(tmp_path / "model.pt")
  assert set(found) == {"weight", "bias"}
  np.testing.assert_array_equal(found["weight"], layer.weight.detach().numpy())


def test_pickle_that_holds_code_is_refused_and_not_run(tmp_path, capsys):
  torch.save({"weight": Code()}, tmp_path / "model.pt")
  with pytest.raises(UserError, match="not a file of plain arrays"):
    read_state_dict(tmp_path / "model.pt")
  assert "code ran" not in capsys.readouterr().out
