"""The launchers, as far as they go without a cluster."""

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "experiments" / "cluster"
WORKDIR = "--workdir=/shared/a run"
FLAGS = ["--config=configs/kwai.py", "--config.data=/shared/my kwai", WORKDIR]

# As Slurm's: one task on each of two nodes. Its exit code is their highest, or
# the highest signal that killed one; a SIGTERM of its own kills them.
SRUN = f"""#!{sys.executable}
import os, pathlib, signal, subprocess, sys
command = sys.argv[2:]
assert sys.argv[1] == "--kill-on-bad-exit=1"
step = {{"SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2",
        "SLURM_LOCALID": "0"}}
tasks = [
  subprocess.Popen(command, env={{**os.environ, **step, "SLURM_PROCID": n}})
  for n in "01"
]
signal.signal(signal.SIGTERM, lambda *_: [task.kill() for task in tasks])
ids = " ".join(str(task.pid) for task in tasks)
pathlib.Path(sys.argv[0]).with_name("tasks").write_text(ids)
codes = [task.wait() for task in tasks]
killed = [128 - code for code in codes if code < 0]
sys.exit(max(killed or codes))
"""


@pytest.fixture
def slurm(tmp_path):
  """Starts slurm.sh where `srun` and `scontrol` are made up."""
  started = []

  def start(python, flags, **environment):
    write_command(tmp_path / "srun", SRUN)
    write_command(
      tmp_path / "scontrol", f'#!/bin/sh\necho "$@" > {tmp_path}/queued\n'
    )
    found = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    process = subprocess.Popen(
      [CLUSTER / "slurm.sh", *flags],
      env={
        **os.environ, "PATH": found, "PYTHON": str(python),
        "SLURM_JOB_ID": "77", **environment,
      },
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
      start_new_session=True,
    )  # fmt: skip
    started.append(process.pid)
    return process

  yield start
  for session in started:  # what a failing test has left
    with contextlib.suppress(ProcessLookupError):
      os.killpg(session, signal.SIGKILL)


def write_command(path, text):
  path.write_text(text)
  path.chmod(0o755)
  return path


def dry_run(name, *flags, **environment):
  return subprocess.run(
    [CLUSTER / name, *flags],
    capture_output=True,
    text=True,
    env={**os.environ, "DRY_RUN": "1", "PYTHON": "python", **environment},
  )


def assert_understood(command):
  """The real command reads FLAGS in it, and that it is one of several."""
  python, *module, multihost = command[: -len(FLAGS)]
  assert python.endswith("python") and module == ["-m", "mmgrec_jax.main"]
  read = (
    "import json, sys; from absl import flags; from mmgrec_jax import main\n"
    "rest, given = main.parse_flags(sys.argv)[1:], flags.FLAGS\n"
    "told = [given.multihost, given.workdir, given.config.data]\n"
    "print(json.dumps([rest, *told]))"
  )
  done = subprocess.run(
    [sys.executable, "-c", read, multihost, *command[-len(FLAGS) :]],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout) == [
    [], True, "/shared/a run", "/shared/my kwai",
  ]  # fmt: skip


def test_slurm_starts_the_command_with_its_flags_whole():
  srun, kill, *command = shlex.split(dry_run("slurm.sh", *FLAGS).stdout)
  assert (srun, kill) == ("srun", "--kill-on-bad-exit=1")
  assert_understood(command)


def test_tpu_hosts_all_get_the_command_with_its_flags_whole():
  done = dry_run("tpu_vm.sh", *FLAGS, TPU="v4", ZONE="here")
  *call, last = shlex.split(done.stdout)
  assert call[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "v4"]
  assert "--worker=all" in call
  on_host = last.removeprefix("--command=").partition(" && ")[2]
  assert_understood(shlex.split(on_host))
  missing = dry_run("tpu_vm.sh", *FLAGS, TPU="v4")
  assert missing.returncode != 0 and "its zone" in missing.stderr


@pytest.mark.parametrize("name", ["slurm.sh", "tpu_vm.sh"])
def test_without_a_workdir_nothing_starts(name):
  done = dry_run(name, *FLAGS[:-1], TPU="v4", ZONE="here")
  assert done.returncode == 2 and not done.stdout
  assert "give --workdir=FOLDER, on storage that all" in done.stderr
  apart = dry_run(name, "--workdir", "/shared/run", TPU="v4", ZONE="here")
  assert apart.returncode == 0


@pytest.mark.parametrize(
  ("gpus", "ids"), [("8", "0,1,2,3,4,5,6,7"), ("1", "0"), ("", "")]
)
def test_a_process_takes_all_gpus_of_its_node(gpus, ids, slurm, tmp_path):
  task = '#!/bin/sh\n[ "$SLURM_PROCID" = 1 ] || echo "$JAX_LOCAL_DEVICE_IDS"\n'
  python = write_command(tmp_path / "python", task)
  out, err = slurm(python, [WORKDIR], SLURM_GPUS_ON_NODE=gpus).communicate()
  assert out == f"{ids}\n", err


@pytest.mark.parametrize(
  ("ends", "code", "queued"),
  [
    (["exit 0", "exit 0"], 0, False),
    (["exit 0", "exit 1"], 1, False),
    (["exit 143", "exit 143"], 143, True),
    (["exit 143", "kill -KILL $$"], 137, False),
  ],
)
def test_slurm_queues_again_what_a_signal_ended(
  ends, code, queued, slurm, tmp_path
):
  task = '#!/bin/sh\n[ "$SLURM_PROCID" = 1 ] || {}\n{}\n'.format(*ends)
  process = slurm(write_command(tmp_path / "python", task), [WORKDIR])
  _, err = process.communicate()
  assert process.returncode == code, err
  assert (tmp_path / "queued").exists() == queued
  if queued:
    assert (tmp_path / "queued").read_text() == "requeue 77\n"


def send_what_slurm_sends(batch_shell, task_ids):
  """When time is nearly up: to all tasks, but with B: to the batch shell."""
  (option,) = (
    line.partition("--signal=")[2]
    for line in (CLUSTER / "slurm.sh").read_text().splitlines()
    if line.startswith("#SBATCH --signal=")
  )
  to, _, name = option.partition("@")[0].rpartition(":")
  for process in [batch_shell] if to == "B" else task_ids:
    os.kill(process, getattr(signal, f"SIG{name}"))


def test_a_run_on_two_nodes_saves_and_is_queued_again(slurm, tmp_path):
  """The real command finds its peer, and its devices, as Slurm tells JAX."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = str(free.getsockname()[1])
  settings = {
    "synthetic.n_users": 40, "synthetic.n_items": 30,
    "synthetic.interactions_per_user": 8, "width": 4,
    "model.epochs": 10_000, "model.patience": 10_000,
  }  # fmt: skip
  process = slurm(
    sys.executable,
    [
      f"--config={ROOT}/configs/synthetic.py:mf", f"--workdir={tmp_path}/run",
      *(f"--config.{key}={value}" for key, value in settings.items()),
    ],
    JAX_NUM_CPU_DEVICES="1", JAX_COORDINATOR_PORT=port,
    SLURM_GPUS_ON_NODE="8", JAX_LOGGING_LEVEL="INFO",
  )  # fmt: skip
  log = tmp_path / "run" / "metrics.jsonl"
  while not (log.is_file() and log.read_text()):
    assert process.poll() is None, process.communicate()
    time.sleep(0.1)
  tasks = (tmp_path / "tasks").read_text().split()
  send_what_slurm_sends(process.pid, map(int, tasks))
  out, err = process.communicate()
  assert process.returncode == 143, err
  (devices,) = (line for line in out.splitlines() if "devices: " in line)
  assert devices.count("cpu:") == 2
  assert "visible devices: 0,1,2,3,4,5,6,7" in err
  assert err.count("stopped by SIGTERM") == 2
  assert any(p.name.isdigit() for p in (tmp_path / "run").glob("mf/*"))
  assert (tmp_path / "queued").read_text() == "requeue 77\n"
