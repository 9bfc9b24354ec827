"""The launchers, as far as they go without a cluster."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

CLUSTER = Path(__file__).parents[2] / "experiments" / "cluster"
FLAGS = ["--config=configs/kwai.py", "--config.data=/shared/my kwai"]


def launch(name, path="", flags=FLAGS, **environment):
  found = os.pathsep.join([str(path), os.environ["PATH"]])
  return subprocess.run(
    [CLUSTER / name, *flags],
    capture_output=True,
    text=True,
    env={**os.environ, "PATH": found, **environment},
  )


def test_slurm_starts_one_process_a_node():
  done = launch("slurm.sh", DRY_RUN="1", PYTHON="python")
  assert shlex.split(done.stdout) == [
    "srun", "--kill-on-bad-exit=1", "python", "-m", "mmgrec_jax.main",
    "--multihost", *FLAGS,
  ]  # fmt: skip


def test_tpu_hosts_all_get_the_command_with_its_flags_whole():
  done = launch("tpu_vm.sh", DRY_RUN="1", TPU="v4", ZONE="here")
  *call, last = shlex.split(done.stdout)
  assert call[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "v4"]
  assert "--worker=all" in call
  on_host = last.removeprefix("--command=").partition(" && ")[2]
  assert shlex.split(on_host)[1:] == [
    "-m",
    "mmgrec_jax.main",
    "--multihost",
    *FLAGS,
  ]
  missing = launch("tpu_vm.sh", DRY_RUN="1", TPU="v4")
  assert missing.returncode != 0 and "its zone" in missing.stderr


@pytest.mark.parametrize(
  ("code", "queued"), [(0, False), (1, False), (143, True)]
)
def test_slurm_queues_again_what_a_signal_ended(code, queued, tmp_path):
  """srun and scontrol are made up: one ends with `code`, one leaves a note."""
  for name, text in [
    ("srun", f"exit {code}"),
    ("scontrol", f'echo "$@" > {tmp_path}/queued'),
  ]:
    (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
    (tmp_path / name).chmod(0o755)
  done = launch("slurm.sh", tmp_path, SLURM_JOB_ID="77")
  assert done.returncode == code
  note = tmp_path / "queued"
  assert note.exists() == queued
  assert not queued or note.read_text() == "requeue 77\n"
