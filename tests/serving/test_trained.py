import json

import numpy as np
import pytest

from mmgrec_jax.arrays import write_arrays
from mmgrec_jax.config import default_config
from mmgrec_jax.data.folder import save_dataset
from mmgrec_jax.errors import UserError
from mmgrec_jax.serving import trained
from mmgrec_jax.stages import content
from mmgrec_jax.stages.rankers import Search


def test_what_is_no_finished_run_is_named(tmp_path, small_data):
  def says(data=None):
    with pytest.raises(UserError) as stopped:
      trained.open_workdir(tmp_path, data)
    return str(stopped.value)

  def write(name, value):
    (tmp_path / f"{name}.json").write_text(json.dumps(value))

  assert "no config.json" in says()
  write("config", {"system": "tiger", "data": str(tmp_path / "data")})
  assert "no results.json; the run is not finished" in says()
  write("results", {})
  assert "No data set at" in says()
  assert "No data set at 'x'" in says("x") and " --data=DIR" in says("x")
  save_dataset(small_data, tmp_path / "data")
  write("dataset", {"fingerprint": "of another"})
  assert "not what the run was trained on" in says()
  write("config", {"system": "tiger", "data": "moved away"})
  write("dataset", {"fingerprint": small_data.fingerprint})
  assert "No data set at 'moved away'" in says()
  found = trained.open_workdir(tmp_path, tmp_path / "data")
  assert found.data.fingerprint == small_data.fingerprint
  write("config", {"system": "mmgrec"})
  assert "an older version made it" in says()


def test_a_setting_younger_than_the_run_has_its_default(tmp_path):
  config = default_config("tiger")
  config.generator.heads = 8
  there = config.to_dict()
  del there["evaluation"]["splits"]
  (tmp_path / "config.json").write_text(json.dumps(there))
  read = trained.read_config(tmp_path)
  assert read.to_dict() == config.to_dict()


def test_a_setting_of_another_version_is_named_with_its_file(tmp_path):
  there = {"system": "tiger", "evaluation": {"shares": [0.5]}}
  (tmp_path / "config.json").write_text(json.dumps(there))
  with pytest.raises(UserError, match=r"config.json: another .*shares is no"):
    trained.read_config(tmp_path)


def test_re_scoring_reads_what_has_a_part_in_the_mix(tmp_path, small_data):
  run = trained.Trained(tmp_path, default_config(), small_data)
  beams = Search(None, None, None)
  with pytest.raises(UserError, match="rescore.json: not found; delete it and"):
    trained.rescored(run, beams)

  def found(**mix):
    other = {"without_ease": {"beams": 9.0}}
    (tmp_path / "rescore.json").write_text(json.dumps({**other, "mmgrec": mix}))
    return trained.rescored(run, beams)

  less = found(beams=0.5, embedding=2.0)
  assert less.weight_J.tolist() == [0.5, 2.0]
  assert less.ease_IxI is None and less.content == ()
  assert found(beams=0.5).weight_J.tolist() == [0.5, 0.0]

  n = small_data.n_items
  ease_IxI = np.eye(n, k=1, dtype=np.float32)
  write_arrays(tmp_path / "item_item.npz", {"weight_IxI": ease_IxI})
  features = {"a": np.eye(n, 2), "b": np.ones((n, 2), np.float32)}
  content.save_content(run.config, features, tmp_path)
  mix = {"beams": 0.5, "embedding": 3.0, "b nearest": -1.0, "ease": 2.0}
  all_of_it = found(**mix)
  assert all_of_it.weight_J.tolist() == [0.5, 3.0, -1.0, 2.0]
  ease_IxI[:, 0] = np.nan  # It says nothing of an item without users.
  np.testing.assert_array_equal(all_of_it.ease_IxI, ease_IxI)
  (rows,) = all_of_it.content
  np.testing.assert_allclose(rows.weight_RxC.sum(axis=1), 1, rtol=1e-6)
  run.config.evaluation.rescore.scores = ()
  assert trained.rescored(run, beams) is beams


@pytest.mark.parametrize(
  "earlier", ['{"0.0": {"2.0": 0.3}}', '{"embedding": {"1.0": {"2.0": 0.3}}}']
)
def test_the_mix_of_an_earlier_version_is_an_error_that_says_so(
  earlier, tmp_path, small_data
):
  run = trained.Trained(tmp_path, default_config(), small_data)
  (tmp_path / "rescore.json").write_text(earlier)
  with pytest.raises(UserError, match="rescore.json is of an earlier version"):
    trained.rescored(run, Search(None, None, None))


@pytest.mark.parametrize(
  ("found", "says"),
  [
    ("{", "rescore.json: damaged"),
    ('{"mmgrec": 1}', "'mmgrec' is missing"),
    ('{"mmgrec": {"beams": NaN}}', "'mmgrec.beams' is missing"),
    ('{"mmgrec": {"beams": 1, "x nearest": 1}}', "content.npz: not found"),
    ('{"mmgrec": {"beams": 1, "ease": 2}}', "item_item.npz: not found"),
  ],
)
def test_a_damaged_mix_is_named(found, says, tmp_path, small_data):
  run = trained.Trained(tmp_path, default_config(), small_data)
  (tmp_path / "rescore.json").write_text(found)
  with pytest.raises(UserError, match=says):
    trained.rescored(run, Search(None, None, None))


def test_content_that_lacks_a_part_of_the_mix_is_named(tmp_path, small_data):
  run = trained.Trained(tmp_path, default_config(), small_data)
  content.save_content(run.config, {"a": np.eye(30, 2)}, tmp_path)
  mix = {"mmgrec": {"beams": 1.0, "b nearest": 0.5}}
  (tmp_path / "rescore.json").write_text(json.dumps(mix))
  says = r"content.npz: has no 'b nearest', which has"
  with pytest.raises(UserError, match=says):
    trained.rescored(run, Search(None, None, None))
