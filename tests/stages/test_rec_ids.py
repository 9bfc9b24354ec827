import json

import numpy as np
import pytest

from mmgrec_jax.arrays import write_arrays
from mmgrec_jax.config import default_config
from mmgrec_jax.errors import UserError
from mmgrec_jax.recid.quality import explained_by_groups
from mmgrec_jax.stages.rec_ids import make_rec_ids
from mmgrec_jax.workdir import Workdir


def stage(tmp_path, data, codes, r2=0.9, **recid):
  config = default_config()
  config.rqvae.codebook_size = 8
  config.recid.update(recid)
  folder = Workdir(tmp_path, config, data)
  h_item = np.random.default_rng(3).normal(size=(data.n_items, 4))
  arrays = {"item": h_item, "codes": codes, "r2": np.array(r2)}
  write_arrays(tmp_path / "embed" / "vectors.npz", arrays)
  return make_rec_ids(config, data, folder), h_item


def random_codes(data):
  return np.random.default_rng(0).integers(0, 8, (data.n_items, 3))


def test_rec_ids_start_with_the_codes(tmp_path, small_data):
  codes = random_codes(small_data)
  ids, _ = stage(tmp_path, small_data, codes)
  assert np.array_equal(ids.tokens_IxM[:, :3], codes)
  assert (tmp_path / "recid_health.json").is_file()


def test_hkmeans_replaces_the_codes(tmp_path, small_data):
  """Of its clusters none at the last level has as many items as it splits into,
  so that hardly any of that level's numbers are used: that is no collapse."""
  ids, h_item = stage(
    tmp_path, small_data, random_codes(small_data), method="hkmeans"
  )
  assert ids.vocabulary[:3] == (8, 8, 8)
  assert explained_by_groups(h_item, ids.tokens_IxM[:, :3]) > 0.7
  health = json.loads((tmp_path / "recid_health.json").read_text())
  assert health["usage"][2] < 0.3


def test_collapsed_codes_stop_the_run_before_the_generator(
  tmp_path, small_data
):
  collapsed = np.zeros((small_data.n_items, 3), np.int64)
  with pytest.raises(UserError, match="uses only 12% of its codewords"):
    stage(tmp_path, small_data, collapsed)
  assert not (tmp_path / "recids.npz").exists()
  assert (tmp_path / "recid_health.json").is_file()


def test_tiger_goes_on_with_ids_that_say_little_of_features(
  tmp_path, small_data
):
  floor, codes = default_config("tiger").recid.min_r2, random_codes(small_data)
  stage(tmp_path / "little", small_data, codes, 0.05, min_r2=floor)
  with pytest.raises(UserError, match="explain only -0.05"):
    stage(tmp_path / "nothing", small_data, codes, -0.05, min_r2=floor)


def test_ignore_health_goes_on(tmp_path, small_data):
  collapsed = np.zeros((small_data.n_items, 3), np.int64)
  ids, _ = stage(tmp_path, small_data, collapsed, 0.0, ignore_health=True)
  order = np.argsort(ids.tokens_IxM[:, 3])
  assert (np.diff(small_data.popularity()[order]) <= 0).all()
