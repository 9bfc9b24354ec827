"""A run that is told to score validation alone never looks at the test."""

import dataclasses
import json

import numpy as np
import pytest

from mmgrec_jax import pipeline
from mmgrec_jax.config import default_config
from mmgrec_jax.data.dataset import TEST, Dataset


class LookedAtTest(AssertionError):
  pass


class NoTest(Dataset):
  """Any question about its test interactions is an error."""

  def edges(self, split):
    return super().edges(self._allowed(split))

  def rows(self, split):
    return super().rows(self._allowed(split))

  def rows_newest_first(self, split):
    return super().rows_newest_first(self._allowed(split))

  def _allowed(self, split):
    if split == TEST:
      raise LookedAtTest
    return split


@pytest.fixture
def run(small_data, tmp_path, monkeypatch):
  """Runs a small system on `NoTest`; returns the workdir."""
  fields = dataclasses.fields(small_data)
  data = NoTest(**{f.name: getattr(small_data, f.name) for f in fields})
  monkeypatch.setattr(pipeline.load, "load_data", lambda config: data)

  def run_one(system, splits):
    config = default_config(system)
    config.width = 8
    config.evaluation.splits = splits
    if system == "mf":
      config.model.epochs = 2
    else:
      config.embed.epochs = 1
      config.recid.ignore_health = True
      config.rqvae.update(
        epochs=1, steps_per_epoch=5, codebook_size=8, hidden=8, latent=4
      )
      config.generator.update(
        epochs=1, heads=1, encoder_head_width=4, decoder_head_width=4,
        feed_forward=8, history_length=6, targets_per_history=2,
      )  # fmt: skip
    pipeline.run(config, tmp_path / "w")
    return tmp_path / "w"

  return run_one


@pytest.mark.parametrize("system", ["mf", "mmgrec"])
def test_a_run_without_the_test_split_asks_nothing_about_it(
  run, system, capsys
):
  workdir = run(system, ("valid",))
  results = json.loads((workdir / "results.json").read_text())
  assert "test" not in results and system in results["valid"]
  assert "test_users_counted" not in results["dataset"]
  with np.load(workdir / "per_user.npz") as saved:
    assert {key.split("/")[0] for key in saved} == {"valid"}
  shown = capsys.readouterr().out
  assert "Validation, mean over" in shown
  assert "in the user's validation items" in shown


def test_the_usual_run_does_look(run):
  with pytest.raises(LookedAtTest):
    run("mf", ("valid", "test"))
