import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from mmgrec_jax import Recommender, export
from mmgrec_jax.arrays import read_arrays, write_arrays
from mmgrec_jax.errors import UserError
from mmgrec_jax.files import sha256
from mmgrec_jax.serving.exported import ExportedRecommender

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture(scope="module", params=["mmgrec", "lightgcn", "itemknn"])
def served(request, tmp_path_factory):
  """A workdir and the folder that it was exported to, for three platforms."""
  name = request.param
  folder = tmp_path_factory.mktemp("served") / "out"
  if name == "mmgrec":
    workdir = request.getfixturevalue("mmgrec_run")
  else:
    workdir = request.getfixturevalue("baseline_runs") / name
  code = export.main([f"--workdir={workdir}", f"--out={folder}", "--k=7"])
  assert code == 0
  return workdir, folder


def test_it_answers_as_the_run_does(served, small_data):
  workdir, folder = served
  of_run = Recommender.load(workdir)
  users = small_data.user_ids.tolist()
  histories = [small_data.item_ids[:4].tolist(), small_data.item_ids[5:6]]
  exported = ExportedRecommender(folder, batch_size=16)
  found = [*exported.recommend(users), *exported.recommend_to_new(histories)]
  wanted = [
    *of_run.recommend(users, k=7),
    *of_run.recommend_to_new(histories, k=7),
  ]
  for one, other in zip(found, wanted, strict=True):
    assert one.user == other.user
    assert one.items.tolist() == other.items.tolist()
    assert one.titles.tolist() == other.titles.tolist()
    np.testing.assert_allclose(one.scores, other.scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(one.rec_ids, other.rec_ids)


def test_reading_it_needs_no_training_code(served):
  _, folder = served
  code = (
    "import sys\n"
    "from mmgrec_jax.serving.exported import ExportedRecommender\n"
    f"one = next(ExportedRecommender({str(folder)!r}).recommend(['user0']))\n"
    "assert len(one.items) == 7\n"
    "loaded = {'flax', 'optax', 'orbax', 'absl', 'jraph', 'ml_collections'}\n"
    "print(sorted(loaded & set(sys.modules)))\n"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert done.stdout == "[]\n"


def test_a_damaged_or_missing_file_is_named(served, tmp_path):
  _, folder = served
  with pytest.raises(UserError, match="about.json: not found"):
    ExportedRecommender(tmp_path)
  for file in folder.iterdir():
    content = file.read_bytes()
    (tmp_path / file.name).write_bytes(content)
  weights = tmp_path / "weights.npz"
  content = bytearray(weights.read_bytes())
  content[len(content) // 2] ^= 1
  weights.write_bytes(content)
  with pytest.raises(UserError, match="weights.npz: missing or damaged"):
    ExportedRecommender(tmp_path)
  weights.unlink()
  with pytest.raises(UserError, match="weights.npz: missing or damaged"):
    ExportedRecommender(tmp_path)


def test_a_file_without_a_checksum_is_refused(served, tmp_path):
  _, folder = served
  copy = shutil.copytree(folder, tmp_path / "copy")
  about = json.loads((copy / "about.json").read_text())
  for name in about["sha256"]:
    digests = {k: v for k, v in about["sha256"].items() if k != name}
    stripped = json.dumps({**about, "sha256": digests})
    (copy / "about.json").write_text(stripped)
    with pytest.raises(UserError, match=f"{name}: missing or damaged"):
      ExportedRecommender(copy)


def changed(folder, name, change):
  """An .npz of it with other arrays, and its checksum; about.json follows."""
  arrays = read_arrays(folder / name, "")
  write_arrays(folder / name, change(arrays))
  signed(folder, name)


def signed(folder, name):
  about = json.loads((folder / "about.json").read_text())
  about["sha256"][name] = sha256(folder / name)
  (folder / "about.json").write_text(json.dumps(about))


@pytest.mark.parametrize(
  ("name", "change", "says"),
  [
    ("ids.npz", lambda a: a | {"titles": a["titles"][1:]}, "'titles' is"),
    ("ids.npz", lambda a: a | {"offset": a["offset"][1:]}, "'offset' does not"),
    ("ids.npz", lambda a: a | {"offset": a["offset"][::-1]}, "'offset' does"),
    ("ids.npz", lambda a: a | {"seen": a["seen"] + 30}, "'seen' has values"),
    (
      "ids.npz",
      lambda a: a | {"seen": np.tile(a["seen"], 9), "offset": 9 * a["offset"]},
      "'offset' does",
    ),
    (
      "ids.npz",
      lambda a: a | {"rec_ids": np.zeros((3, 4), int)},
      "'rec_ids' is int64",
    ),
    ("weights.npz", lambda a: {"0000": a["0000"]}, "of other weights"),
    ("weights.npz", lambda a: a | {"0000": np.array("x")}, "damaged"),
  ],
)
def test_arrays_that_do_not_fit_together_are_named(
  baseline_runs, name, change, says, tmp_path
):
  folder = tmp_path / "out"
  flags = [f"--workdir={baseline_runs / 'itemknn'}", f"--out={folder}"]
  assert export.main([*flags, "--platforms=cpu"]) == 0
  changed(folder, name, change)
  with pytest.raises(UserError, match=says):
    ExportedRecommender(folder)


def test_a_program_that_is_none_or_another_is_named(served, tmp_path):
  _, folder = served
  copy = shutil.copytree(folder, tmp_path / "copy")
  (copy / "program.jaxexport").write_bytes(b"no program")
  signed(copy, "program.jaxexport")
  with pytest.raises(UserError, match="program.jaxexport: damaged"):
    ExportedRecommender(copy)


@pytest.mark.parametrize(
  ("flag", "says"),
  [
    ("--k=31", "k is 31, but there are 30 items"),
    ("--longest=2", "--longest is 2, but a user has"),
    ("--platforms=cpu,abacus", "'abacus' is none"),
    ("--workdir=nowhere", "nowhere: no config.json"),
  ],
)
def test_wrong_input_is_one_sentence(mmgrec_run, flag, says, tmp_path, capsys):
  flags = [f"--workdir={mmgrec_run}", f"--out={tmp_path / 'out'}", flag]
  assert export.main(flags) == 2
  assert says in capsys.readouterr().err
  assert not (tmp_path / "out").exists()


def test_a_program_for_another_platform_is_named(baseline_runs, tmp_path):
  flags = [f"--workdir={baseline_runs / 'lightgcn'}", f"--out={tmp_path / 'x'}"]
  assert export.main([*flags, "--k=3", "--platforms=tpu"]) == 0
  with pytest.raises(UserError, match="not run here, on cpu, but on tpu; exp"):
    ExportedRecommender(tmp_path / "x")


def test_a_history_longer_than_provided_for_is_named(served):
  _, folder = served
  exported = ExportedRecommender(folder)
  longest = json.loads((folder / "about.json").read_text())["longest"]
  history = [f"item{i}" for i in range(longest + 1)]
  with pytest.raises(UserError, match=f"at most {longest} were provided for"):
    list(exported.recommend_to_new([history]))
