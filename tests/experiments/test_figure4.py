import json
from pathlib import Path

import pytest

from experiments import figure4, planning, runs
from mmgrec_jax import config as configs

# Of ml_collections, when it reads a config file in this process.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")

ROOT = Path(__file__).parents[2]
DATASET = {"name": "made up", "fingerprint": "f"}


@pytest.fixture
def executed(monkeypatch):
  """Runs leave scores that tell their layers, heads and seed. Which ran."""
  monkeypatch.chdir(ROOT)
  done = []

  def execute(run):
    done.append(run)
    config = dict(configs.flatten(planning.read_config(run.arguments)))
    if run.system == "lightgt":
      layers, heads = config["model.layers"], config["model.heads"]
      scored = ["lightgt"]
    else:
      layers, heads = (
        config["generator.encoder_layers"],
        config["generator.heads"],
      )
      assert layers == config["generator.decoder_layers"]
      rescored = config["evaluation.rescore.scores"]
      scored = ["generator", "mmgrec"] if rescored else ["mmgrec"]
    score = layers / 10 + heads / 100 + run.seed / 1000
    test = {name: {"recall@10": score} for name in scored}
    run.folder.mkdir(parents=True)
    (run.folder / "results.json").write_text(
      json.dumps({"dataset": DATASET, "test": test})
    )
    return 0

  monkeypatch.setattr(runs, "execute", execute)
  return done


def test_every_point_is_a_run_of_its_own_but_the_defaults_are_shared(
  executed, tmp_path, capsys
):
  flags = ["--datasets=synthetic", "--seeds=2", f"--out={tmp_path}"]
  figure4.main(flags)
  # 4 + 4 values of each system, of which two are the default run.
  assert len(executed) == 2 * 7 * 2
  assert {run.folder.name for run in executed if not run.own} == {
    "mmgrec-0", "mmgrec-1", "lightgt-0", "lightgt-1",
  }  # fmt: skip
  found = json.loads((tmp_path / "figure4.json").read_text())["synthetic"]
  panels = found["panels"]
  for line, (layers, heads) in {
    "lightgt": (2, 1), "generator": (1, 2), "mmgrec": (1, 2),
  }.items():  # fmt: skip
    for n in (1, 2, 3, 4):
      score = panels["layers"][line][str(n)]
      assert score["mean"] == pytest.approx(n / 10 + heads / 100 + 0.0005)
    for n in (1, 2, 4, 8):
      score = panels["heads"][line][str(n)]
      assert score["values"][0] == pytest.approx(layers / 10 + n / 100)
  text = (tmp_path / "figure4.md").read_text()
  (row,) = [one for one in text.splitlines() if "| mmgrec" in one][:1]
  assert "0.1205 ± 0.0007" in row
  assert (tmp_path / "figure4-synthetic.png").stat().st_size > 1000
  figure4.main(flags)
  assert len(executed) == 2 * 7 * 2
  assert "finished before" in capsys.readouterr().out


def test_beams_that_are_not_re_scored_are_one_line(executed, tmp_path):
  figure4.main(
    ["--datasets=synthetic", "--seeds=1", "--models=mmgrec",
     "--config.evaluation.rescore.scores=()", f"--out={tmp_path}"]
  )  # fmt: skip
  found = json.loads((tmp_path / "figure4.json").read_text())["synthetic"]
  assert found["panels"].keys() == figure4.VALUES.keys()
  for lines in found["panels"].values():
    assert list(lines) == ["mmgrec"]
    assert len(lines["mmgrec"]) == 4
  assert "generator" not in (tmp_path / "figure4.md").read_text()
  assert (tmp_path / "figure4-synthetic.png").stat().st_size > 1000


def test_what_failed_is_said_and_the_rest_is_shown(
  executed, tmp_path, monkeypatch
):
  works = runs.execute
  failing = lambda run: 1 if run.row == "lightgt-heads-8" else works(run)
  monkeypatch.setattr(runs, "execute", failing)
  with pytest.raises(SystemExit) as stopped:
    figure4.main(
      ["--datasets=synthetic", "--seeds=1", "--models=lightgt",
       f"--out={tmp_path}"]
    )  # fmt: skip
  assert stopped.value.code == 1
  text = (tmp_path / "figure4.md").read_text()
  assert "not run" in text and "Not finished: lightgt-heads-8-0." in text


@pytest.mark.parametrize(
  ("flag", "says"),
  [
    ("--config.generator.heads=3", "generator.heads: the figure varies it"),
    ("--models=lightgcn", "there are all, lightgt, mmgrec"),
    ("--seeds=0", "1 or more"),
  ],
)
def test_mistakes_are_named(flag, says, executed, tmp_path, capsys):
  with pytest.raises(SystemExit) as stopped:
    figure4.main(["--datasets=synthetic", f"--out={tmp_path / 'o'}", flag])
  assert stopped.value.code == 2
  assert says in capsys.readouterr().err
  assert not executed and not (tmp_path / "o").exists()
