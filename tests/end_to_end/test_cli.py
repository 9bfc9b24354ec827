"""The command as a process, on a small synthetic set."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mmgrec_jax.config import SYSTEMS
from mmgrec_jax.data.dataset import SPLITS, TRAIN
from mmgrec_jax.data.folder import save_dataset
from mmgrec_jax.data.synthetic import make_synthetic
from mmgrec_jax.recid.assign import load_rec_ids

CONFIGS = Path(__file__).parents[2] / "configs"
TINY = {
  "synthetic.n_users": 60,
  "synthetic.n_items": 50,
  "synthetic.interactions_per_user": 12,
  "width": 16,
  "model.epochs": 4,
  "model.eval_every": 1,
  "rqvae.epochs": 3,
  "rqvae.steps_per_epoch": 20,
  "rqvae.codebook_size": 16,
  "generator.epochs": 3,
  "generator.eval_every": 1,
  "generator.batch_size": 32,
  "train.checkpoint_seconds": 0.01,
}


def command(config, *flags, settings=TINY):
  given = [f"--config.{key}={value}" for key, value in settings.items()]
  return [
    sys.executable, "-m", "mmgrec_jax.main", f"--config={CONFIGS / config}",
    *given, *flags,
  ]  # fmt: skip


def call(config, *flags, settings=TINY, cwd=None):
  return subprocess.run(
    command(config, *flags, settings=settings),
    capture_output=True,
    text=True,
    cwd=cwd,
  )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("run") / "w"
  done = call("synthetic.py", f"--workdir={workdir}")
  assert done.returncode == 0, done.stderr
  return workdir, done.stdout


def results(workdir):
  return json.loads((workdir / "results.json").read_text())


def test_results_have_the_documented_form(finished):
  workdir, _ = finished
  out = results(workdir)
  assert out.keys() == {
    "dataset", "valid", "test", "seconds", "seconds_per_1000_users",
  }  # fmt: skip
  for split in ("valid", "test"):
    assert list(out[split]) == [
      "popularity", "embedding", "generator", "without_ease", "mmgrec",
    ]  # fmt: skip
    for system in out[split].values():
      for k in (5, 10, 20, 50):
        assert 0 <= system[f"recall@{k}"] <= 1
        assert 0 <= system[f"ndcg@{k}"] <= 1
  assert out["dataset"]["users"] == 60
  assert len(out["dataset"]["fingerprint"]) == 64
  stages = {"lattice", "rqvae", "generate", "ease", "rescore", "evaluate"}
  assert out["seconds"].keys() == stages
  # Two more are ranked by mmgrec's program, with weights of 0 in it.
  timed = {"popularity", "embedding", "mmgrec"}
  assert out["seconds_per_1000_users"].keys() == timed
  assert all(s > 0 for s in out["seconds_per_1000_users"].values())


def test_artefacts_agree_with_the_results(finished):
  workdir, _ = finished
  load_rec_ids(workdir / "recids.npz")
  with np.load(workdir / "per_user.npz", allow_pickle=False) as saved:
    for system in results(workdir)["test"]:
      per_user = saved[f"test/{system}/recall@10"]
      assert len(per_user) == len(saved["test/users"])
      reported = results(workdir)["test"][system]["recall@10"]
      assert per_user.mean() == pytest.approx(reported)
  stages = [
    json.loads(line)["stage"]
    for line in (workdir / "metrics.jsonl").read_text().splitlines()
  ]
  assert stages == ["lattice"] * 4 + ["rqvae"] * 3 + ["generate"] * 3


def test_the_mix_of_re_scoring_is_shown(finished):
  workdir, shown = finished
  found = json.loads((workdir / "rescore.json").read_text())
  assert found.keys() == {"without_ease", "mmgrec"}
  mix = found["mmgrec"]
  total = sum(map(abs, mix.values()))
  assert f"re-scoring: beams {mix['beams'] / total:.0%}, " in shown
  assert f", ease {mix['ease'] / total:.0%}\n" in shown


def test_a_person_sees_data_health_users_table_and_what_next(finished):
  workdir, shown = finished
  assert "synthetic-60x50: 60 users, 50 items" in shown
  assert "Rec-ID health: reconstruction R^2" in shown
  assert shown.count("is recommended") == 3
  table = shown[shown.index("Test, mean over") :]
  for word in ("chance", "popularity", "embedding", "mmgrec", "Recall@10",
               "NDCG@20"):  # fmt: skip
    assert word in table
  assert f"Artefacts are in {workdir}" in table
  assert re.search(r"python -m mmgrec_jax.main --config=.*epochs=6", table)


def test_the_same_command_again_trains_nothing_and_says_the_same(finished):
  workdir, shown = finished
  before = results(workdir)
  lines = (workdir / "metrics.jsonl").read_text()
  again = call("synthetic.py", f"--workdir={workdir}")
  assert again.returncode == 0, again.stderr
  table = lambda text: text[text.index("Test, mean over") :]
  assert table(again.stdout) == table(shown)
  assert results(workdir)["test"] == before["test"]
  assert (workdir / "metrics.jsonl").read_text() == lines


def test_tiger_is_one_of_the_systems(tmp_path):
  settings = {k: v for k, v in TINY.items() if not k.startswith("model.")}
  workdir = tmp_path / "w"
  done = call("synthetic.py:tiger", f"--workdir={workdir}", settings=settings)
  assert done.returncode == 0, done.stderr
  assert results(workdir)["test"].keys() == {"popularity", "tiger"}
  stages = {"rqvae", "generate", "evaluate"}
  assert results(workdir)["seconds"].keys() == stages


def test_the_papers_gcn_can_be_the_embedding(tmp_path):
  settings = {key.replace("model.", "embed."): TINY[key] for key in TINY}
  settings["recid.ignore_health"] = True  # so little training says nothing
  workdir = tmp_path / "w"
  done = call(
    "synthetic.py:embedding=gcn", f"--workdir={workdir}", settings=settings
  )
  assert done.returncode == 0, done.stderr
  stages = {"embed", "rqvae", "generate", "ease", "rescore", "evaluate"}
  assert results(workdir)["seconds"].keys() == stages


def test_a_workdir_with_other_settings_is_refused(finished):
  workdir, _ = finished
  settings = {**TINY, "generator.epochs": 9}
  done = call("synthetic.py", f"--workdir={workdir}", settings=settings)
  assert done.returncode == 2
  assert "config.generator.epochs: 3 there, 9 now" in done.stderr
  assert "Traceback" not in done.stderr


def test_killed_at_any_moment_the_same_command_gives_the_same_results(
  finished, tmp_path
):
  """SIGKILL in the embedding stage and in the generator, then to the end."""
  workdir, _ = finished
  broken = tmp_path / "broken"
  for folder in ("lattice", "generate"):
    process = subprocess.Popen(
      command("synthetic.py", f"--workdir={broken}"),
      stdout=subprocess.DEVNULL,
    )
    # A finished checkpoint has a plain number as its name.
    while not any(p.name.isdigit() for p in (broken / folder).glob("*")):
      assert process.poll() is None
      time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (broken / "results.json").exists()
  done = call("synthetic.py", f"--workdir={broken}")
  assert done.returncode == 0, done.stderr
  for split in ("valid", "test"):
    assert results(broken)[split] == results(workdir)[split]
  for name in ("embed/vectors.npz", "recids.npz"):
    with np.load(workdir / name) as a, np.load(broken / name) as b:
      assert all(np.array_equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
  ("config", "flags", "says"),
  [
    (
      "synthetic.py",
      ["--config.generator.head=3"],
      "did you mean config.generator.heads",
    ),
    ("synthetic.py", ["--config.seed=x"], "config.seed=x"),
    ("synthetic.py", ["--wrkdir=x"], "Did you mean: workdir"),
    ("kwai.py", [], "No data set at 'data/kwai': put a folder with"),
    ("nothing.py", [], "no such file"),
    ("ml100k.py:papr", [], "did you mean 'paper'"),
    ("ml100k.py:tigre", [], f"There are paper .* and {', '.join(SYSTEMS)}."),
    ("ml100k.py:embedding=gnc", [], "did you mean 'gcn'"),
    (
      "synthetic.py",
      ["--config.embedding=mf"],
      "choose these after the colon, as in .*embedding=",
    ),
  ],
)
def test_mistakes_get_one_sentence_and_exit_code_2(
  config, flags, says, tmp_path
):
  done = call(config, *flags, settings={}, cwd=tmp_path)
  assert done.returncode == 2
  assert re.search(says, done.stderr)
  assert "Traceback" not in done.stderr
  assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_split_in_which_nobody_counts_is_named_before_training(
  split, tmp_path
):
  data = make_synthetic(20, 15, 6)
  gone_E = data.split_E == SPLITS[split]
  split_E = np.where(gone_E, TRAIN, data.split_E)
  save_dataset(dataclasses.replace(data, split_E=split_E), tmp_path / "data")
  workdir = tmp_path / "w"
  done = call(
    "own.py:mf", "--config.data=data", f"--workdir={workdir}", settings={},
    cwd=tmp_path,
  )  # fmt: skip
  assert done.returncode == 2
  assert f"both the training and the {split} split" in done.stderr
  assert "Traceback" not in done.stderr
  assert not workdir.exists()


def test_a_corrupt_features_file_is_named(tmp_path):
  data = tmp_path / "data"
  save_dataset(make_synthetic(20, 15, 6), data)
  features = np.load(data / "feat_text.npy")
  features[4, 2] = np.inf
  np.save(data / "feat_text.npy", features)
  (data / "meta.json").unlink()  # it has a digest of the file
  done = call("lfm2k.py", f"--config.data={data}", settings={}, cwd=tmp_path)
  assert done.returncode == 2
  assert "feature 'text' is inf at row 4, column 2" in done.stderr
  (data / "feat_text.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr'")
  done = call("lfm2k.py", f"--config.data={data}", settings={}, cwd=tmp_path)
  assert done.returncode == 2
  assert "feat_text.npy: not a readable NumPy file" in done.stderr


def test_help_lists_every_setting_and_system():
  done = subprocess.run(
    [sys.executable, "-m", "mmgrec_jax.main", "--help"],
    capture_output=True,
    text=True,
  )
  words = ("--workdir", "--config.generator.heads=2", "--config.seed=0")
  for word in (*words, *SYSTEMS):
    assert word in done.stdout


def test_a_full_disk_is_one_sentence_and_the_same_command_goes_on(tmp_path):
  """Files may have 6 kB, too little for a checkpoint; then any size."""
  flags = [f"--workdir={tmp_path / 'w'}"]
  settings = {"model.epochs": 3, "train.checkpoint_seconds": 0.01}
  small = command("synthetic.py:mf", *flags, settings=settings)
  full = subprocess.run(
    ["bash", "-c", 'ulimit -f 6; exec "$@"', "limited", *small],
    capture_output=True,
    text=True,
    # What is compiled is a file, too.
    env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"},
  )
  assert full.returncode == 1
  assert "a checkpoint could not be written" in full.stderr
  assert not (tmp_path / "w" / "results.json").exists()
  again = subprocess.run(small, capture_output=True)
  assert again.returncode == 0
  assert (tmp_path / "w" / "results.json").exists()
