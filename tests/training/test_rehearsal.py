import pytest

from mmgrec_jax import pipeline
from mmgrec_jax.config import default_config
from mmgrec_jax.data.folder import save_dataset
from mmgrec_jax.report.tables import rehearsal_line, rehearsal_total
from mmgrec_jax.training.rehearsal import Rehearsal

MEASURED = Rehearsal(
  "generate", 3 * 2**20, compiling=5.0, step=0.1, steps=200, planning=0.5,
  epochs=10, validation=2.0, validations=5,
)  # fmt: skip


def test_the_whole_is_what_its_parts_take():
  assert MEASURED.seconds == pytest.approx(5 + 200 * 0.1 + 10 * 0.5 + 5 * 2)
  line = rehearsal_line(MEASURED)
  assert "3 MiB" in line and "200 steps of 100.0 ms" in line
  assert "5 validations of 2.0 s: at most 40 s" in line
  assert "at most 2 minutes" in rehearsal_total([MEASURED] * 3)
  assert "at most 2.0 hours" in rehearsal_total([MEASURED] * 180)
  assert "Nothing is trained" in rehearsal_total([])


def test_a_dry_run_names_every_stage_and_writes_nothing(
  small_data, tmp_path, monkeypatch, capsys, one_device
):
  save_dataset(small_data, tmp_path / "data")
  monkeypatch.chdir(tmp_path)
  before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
  config = default_config()
  config.data, config.width = "data", 8
  config.rqvae.update(codebook_size=8, hidden=8, latent=4)
  config.generator.update(
    heads=1, encoder_head_width=4, decoder_head_width=4, feed_forward=8,
    history_length=6, targets_per_history=2,
  )  # fmt: skip
  settings = config.to_dict()
  pipeline.dry_run(config)
  assert config.to_dict() == settings
  assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
  lines = capsys.readouterr().out.splitlines()
  assert [line.partition(":")[0] for line in lines[-4:-1]] == [
    "embed", "rqvae", "generate",
  ]  # fmt: skip
  steps = config.rqvae.epochs * config.rqvae.steps_per_epoch
  assert f"{steps:,} steps of" in lines[-3]
  assert "30 validations of" in lines[-3] and "40 validations of" in lines[-4]
  assert lines[-1].endswith("Nothing was written.")
