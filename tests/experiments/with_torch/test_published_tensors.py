"""Features that are published as PyTorch tensors."""

import numpy as np
import pytest
import torch

from mmgrec_jax.data import published
from mmgrec_jax.errors import UserError


class Code:
  def __reduce__(self):
    return print, ("ran",)


def test_a_tensor_is_read(tmp_path):
  visual = torch.arange(6, dtype=torch.float32).reshape(3, 2)
  torch.save(visual, tmp_path / "feat_v.pt")
  found = published._read_tensor(tmp_path / "feat_v.pt")
  np.testing.assert_array_equal(found, visual.numpy())


def test_what_is_more_than_a_tensor_is_refused_and_does_not_run(
  tmp_path, capsys
):
  path = tmp_path / "feat_v.pt"
  for value in (Code(), {"weight": torch.zeros(2)}):
    torch.save(value, path)
    with pytest.raises(UserError, match=r"feat_v\.pt: refused"):
      published._read_tensor(path)
  whole = path.read_bytes()
  path.write_bytes(whole[: len(whole) // 2])
  with pytest.raises(UserError, match=r"feat_v\.pt: refused"):
    published._read_tensor(path)
  assert capsys.readouterr().out == ""
