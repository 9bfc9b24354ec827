"""Two processes with two devices each, as two hosts would be."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

CONFIGS = Path(__file__).parents[2] / "configs"
SETTINGS = {
  "synthetic.n_users": 60,
  "synthetic.n_items": 50,
  "synthetic.interactions_per_user": 12,
}
OF_MMGREC = {
  "width": 16,
  "embed.epochs": 2,
  "rqvae.epochs": 2,
  "rqvae.steps_per_epoch": 10,
  "rqvae.codebook_size": 16,
  "recid.ignore_health": True,
  "generator.epochs": 2,
  "generator.eval_every": 1,
  "generator.skip_sure": False,  # less to compile
}


# Shorter tables are not split.
LARGE = {
  "synthetic.n_users": 1100,
  "synthetic.n_items": 1100,
  "model.epochs": 2,
  "width": 8,
}


def start(preset, devices, workdir, settings, *flags):
  given = [f"--config.{k}={v}" for k, v in {**SETTINGS, **settings}.items()]
  environment = {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": str(devices),
  }
  return subprocess.Popen(
    [
      sys.executable, "-m", "mmgrec_jax.main",
      f"--config={CONFIGS / 'synthetic.py'}{preset}", *given,
      f"--workdir={workdir}", *flags,
    ],
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
  )  # fmt: skip


def flags_of_two():
  """Of two processes that are to find each other."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  shared = (f"--coordinator_address={address}", "--num_processes=2")
  return [(*shared, f"--process_id={process}") for process in range(2)]


def two_hosts(preset, workdir, settings, other=None):
  """Args: other: the second one's workdir, by default the same."""
  return [
    start(preset, 2, folder, settings, *flags)
    for flags, folder in zip(
      flags_of_two(), [workdir, other or workdir], strict=True
    )
  ]


def ended(processes):
  """What each wrote and its exit code."""
  found = [
    (*process.communicate(), process.returncode) for process in processes
  ]
  return list(zip(*found, strict=True))


def assert_equal_runs(folder, other, names):
  scores = [
    json.loads((run / "results.json").read_text())["test"]
    for run in (folder, other)
  ]
  for system, of_one in scores[1].items():
    assert scores[0][system] == pytest.approx(of_one)
  for name in names:
    with np.load(folder / name) as one, np.load(other / name) as two:
      assert list(one) == list(two)
      for key in one:
        np.testing.assert_allclose(one[key], two[key], atol=1e-5)


@pytest.mark.parametrize(
  ("preset", "settings", "names"),
  [
    (":embedding=gcn", OF_MMGREC, ["embed/vectors.npz", "recids.npz"]),
    (":ease", {}, ["item_item.npz"]),
    # Tables of which each of the four devices has a part.
    (":mf", {**LARGE, "model_shards": 4}, ["vectors.npz"]),
  ],
)
def test_two_hosts_make_what_one_makes(preset, settings, names, tmp_path):
  out, err, codes = ended(two_hosts(preset, tmp_path / "two", settings))
  assert codes == (0, 0), err
  # The first alone speaks.
  assert "Test, mean over" in out[0] and "Test, mean over" not in out[1]
  settings = {**settings, "model_shards": 1}
  _, err, codes = ended([start(preset, 1, tmp_path / "one", settings)])
  assert codes == (0,), err
  assert_equal_runs(tmp_path / "two", tmp_path / "one", names)


def two_hosts_at_work(workdir):
  """Hosts of a long run, once they have gone on for ten epochs."""
  settings = {
    "model.epochs": 2000,
    "model.patience": 2000,
    "train.checkpoint_seconds": 0.01,
  }
  log = workdir / "metrics.jsonl"
  lines = lambda: log.read_text().splitlines() if log.is_file() else []
  before = len(lines())
  processes = two_hosts(":mf", workdir, settings)
  while len(lines()) <= before + 10:
    assert processes[0].poll() is None
    time.sleep(0.1)
  epochs = [json.loads(line)["epoch"] for line in lines()]
  assert epochs == list(range(len(epochs)))
  return processes


def assert_both_go_on(workdir):
  processes = two_hosts_at_work(workdir)
  for process in processes:
    process.kill()
  ended(processes)


def test_a_signal_to_one_host_ends_both_and_both_go_on(tmp_path):
  processes = two_hosts_at_work(tmp_path / "w")
  processes[1].send_signal(signal.SIGTERM)
  _, err, codes = ended(processes)
  assert codes == (143, 143), err
  assert all("stopped by SIGTERM" in text for text in err)
  assert_both_go_on(tmp_path / "w")


def test_when_a_host_dies_the_other_ends_and_both_go_on(tmp_path):
  processes = two_hosts_at_work(tmp_path / "w")
  processes[0].kill()
  _, err, codes = ended(processes)
  assert codes[0] == -signal.SIGKILL and codes[1] not in (0, None), err
  assert "another task died" in err[1]
  assert_both_go_on(tmp_path / "w")


def test_hosts_without_a_folder_in_common_are_told(tmp_path):
  _, err, codes = ended(
    two_hosts(":ease", tmp_path / "a", {}, other=tmp_path / "b")
  )
  assert codes == (2, 2), err
  assert all("process 1 has another folder of that name" in e for e in err)


def test_all_hosts_of_a_second_run_are_refused(tmp_path):
  with (tmp_path / "lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    _, err, codes = ended(two_hosts(":ease", tmp_path, {}))
  assert codes == (2, 2), err
  assert all("another run is at work here" in e for e in err)


def test_one_of_the_three_flags_alone_is_refused(tmp_path):
  _, err, codes = ended(
    [start(":ease", 1, tmp_path, {}, "--num_processes=2", "--process_id=1")]
  )
  assert codes == (2,) and "give all three of" in err[0]


def test_hosts_with_other_settings_are_told(tmp_path):
  processes = [
    start(":mf", 1, tmp_path / "w", {"seed": process}, *flags)
    for process, flags in enumerate(flags_of_two())
  ]
  _, err, codes = ended(processes)
  assert codes == (2, 2), err
  assert all(
    "The config of process 1 is not that of process 0" in e for e in err
  )
