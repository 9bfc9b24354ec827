import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import kills

pytestmark = pytest.mark.filterwarnings("ignore:the load_module")

CONFIG = Path(__file__).parents[2] / "configs" / "synthetic.py"


def test_where_a_killed_run_was(tmp_path):
  assert kills.where(tmp_path) == "before the first epoch"
  (tmp_path / "metrics.jsonl").write_text(
    '{"stage": "rqvae", "epoch": 4, "loss": 1}\n{"stage": "gene'
  )
  assert kills.where(tmp_path) == "rqvae, epoch 5"


def test_the_largest_difference_is_found_however_deep():
  a = {"valid": {"mf": {"recall@10": 0.5}}, "params": {"w": np.ones((2, 3))}}
  b = {"valid": {"mf": {"recall@10": 0.5}}, "params": {"w": np.ones((2, 3))}}
  assert kills.differences(a, b) == {"valid": 0, "params": 0}
  b["params"]["w"][1, 2] -= 1e-9
  found = kills.differences(a, b)
  assert found["valid"] == 0 and found["params"] == pytest.approx(1e-9)
  b["params"]["w"][1, 1] = np.nan
  assert np.isnan(kills.differences(a, b)["params"])
  assert kills.differences(a, {**a, "params": {}})["params"] == np.inf
  assert "All equal." in kills.to_markdown([], [{"valid": 0.0}])
  text = kills.to_markdown([(1.5, "mf, epoch 2")], [{"valid": 0.0}, found])
  assert "NOT equal." in text and "| 1    | 1.50" in text


def test_a_killed_run_ends_like_one_left_alone(tmp_path):
  out = tmp_path / "out"
  settings = ["--config.model.epochs=6", "--config.width=8"]
  kills.main([f"--config={CONFIG}:mf", "--kills=1", f"--out={out}", *settings])
  found = json.loads((out / "kills.json").read_text())
  assert len(found["kills"]) == 1
  for one in found["differences"]:
    assert one == {"valid": 0, "test": 0, "vectors.npz": 0, "metrics.jsonl": 0}


def test_a_stopped_test_leaves_no_run_behind(tmp_path):
  out = tmp_path / "out"
  command = [sys.executable, "-m", "experiments.kills", f"--out={out}"]
  process = subprocess.Popen(
    [*command, f"--config={CONFIG}"],
    cwd=CONFIG.parents[1],
    stderr=subprocess.PIPE,
    text=True,
  )
  log = out / "whole.log"
  while not log.exists() or not log.stat().st_size:  # the run has begun
    assert process.poll() is None
  children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
  (child,) = children.read_text().split()
  process.terminate()
  _, said = process.communicate()
  assert process.returncode == 130
  assert "stopped; the same command begins anew" in said
  assert not Path(f"/proc/{child}").exists()


def test_a_run_that_fails_is_named(tmp_path, capsys):
  with pytest.raises(SystemExit) as stopped:
    kills.main([f"--config={CONFIG}", f"--out={tmp_path}", "--kills=-1"])
  assert stopped.value.code == 2
  assert "--kills=-1" in capsys.readouterr().err
  with pytest.raises(SystemExit) as stopped:
    kills.main([f"--config={CONFIG}", f"--out={tmp_path}", "--config.seed=x"])
  assert stopped.value.code == 2
  flags = ["--config.model.epochs=1", "--config.data=gone"]
  with pytest.raises(SystemExit) as stopped:
    kills.main([f"--config={CONFIG}:mf", f"--out={tmp_path}", *flags])
  assert stopped.value.code == 2
  assert "the run failed, see" in capsys.readouterr().err
