import importlib.util
import math
from pathlib import Path

import pytest

from mmgrec_jax import config as configs
from mmgrec_jax.errors import UserError

FILES = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))


def load(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  assert spec and spec.loader
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize("preset", ["", *configs.PRESETS, *configs.SYSTEMS])
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_config_file_is_valid_in_every_preset(path, preset):
  module = load(path)
  config = module.get_config(preset)
  configs.check(config)
  assert "Command:" in module.__doc__ and "Data:" in module.__doc__
  if preset == "paper":
    assert config.generator.optimizer.name == "sgd"
    assert config.generator.optimizer.learning_rate == 1e-3
    assert config.generator.optimizer.weight_decay == 1e-5
    assert config.generator.batch_size == 3000
    # Of a sum over the batch, where ours is a mean: rate and decay of a step.
    assert config.embed.optimizer.learning_rate == 3000 * 1e-3
    decay = config.embed.optimizer.weight_decay
    assert 3.0 * decay == pytest.approx(1e-3 * 1e-5)


def test_the_six_data_sets_are_there():
  names = {path.stem for path in FILES}
  assert names >= {
    "ml100k", "lfm2k", "synthetic", "movielens", "tiktok", "kwai",
  }  # fmt: skip


@pytest.mark.parametrize(
  ("key", "value", "says"),
  [
    ("generator.head", 3, "did you mean config.generator.heads"),
    ("lr", 0.1, "config.lr is no setting; did you mean config."),
    ("generator.learning_rate", 0.1, "generator.optimizer.learning_rate"),
    ("seed", "abc", "config.seed = 'abc': it must be of type int"),
    ("generator.trie_softmax", 1, "must be of type bool"),
  ],
)
def test_a_wrong_key_or_type_names_the_fix(key, value, says):
  with pytest.raises(UserError, match=says):
    configs.set_value(configs.default_config(), key, value)


@pytest.mark.parametrize(
  ("key", "value", "says"),
  [
    ("generator.encoder", "relative", "did you mean 'relation'"),
    ("generator.trie", "pack", "did you mean 'packed'"),
    ("recid.method", "kmeans", "did you mean 'hkmeans'"),
    ("embed.optimizer.momentum", 0.9, "no effect unless .*name is 'sgd'"),
    ("synthetic.n_users", 9, "no effect unless config.data is 'synthetic'"),
    ("generator.heads", 0, "config.generator.heads = 0 is out of range"),
    ("evaluation.valid_beam_width", 9, "valid_beam_width = 9: .* at least 10"),
    ("seed", 2**31, "config.seed = 2147483648: the largest is 2147483647"),
    ("generator.dropout", 1.0, "config.generator.dropout = 1.0 is out of"),
    ("embed.fan_out", (10,), r"each of the 2 layers, such as \(10, 10\)"),
    ("embed.fan_out", (10, 0), "needs a number of neighbours"),
    ("evaluation.cutoffs", (5, 20), "must hold 10"),
    ("evaluation.cutoffs", (10.5, 10), "needs whole numbers"),
    ("generator.optimizer.learning_rate", math.inf, "inf is out of range"),
    ("recid.min_r2", math.nan, "nan is out of range"),
    ("system", "mf", "as in --config=FILE:itemknn or .*:embedding=gcn"),
    ("evaluation.beam_width", 20, "at least the largest"),
    ("evaluation.splits", ("test",), r"it is \('valid', 'test'\) or"),
  ],
)
def test_a_bad_or_ineffective_value_is_an_error(key, value, says):
  config = configs.default_config()
  configs.check(config)
  configs.set_value(config, key, value)
  with pytest.raises(UserError, match=says):
    configs.check(config)


def test_heads_divide_gats_hidden_width_where_its_vectors_are_mmgrecs_too():
  for config in (
    configs.default_config("gat"),
    configs.default_config("mmgrec", "gat"),
  ):
    configs.check(config)
    configs.set_value(config, "model.heads", 3)
    with pytest.raises(UserError, match="config.model.heads = 3: it must"):
      configs.check(config)


@pytest.mark.parametrize(
  ("system", "key"),
  [
    ("lightgt", "model.id_share"),
    ("lattice", "model.original"),
    ("mmgrec", "generator.soft_targets.share"),
  ],
)
def test_a_share_of_two_things_goes_from_none_to_all(system, key):
  config = configs.default_config(system)
  for share in (0, 1):
    configs.set_value(config, key, share)
    configs.check(config)
  for share in (-0.1, 1.1):
    configs.set_value(config, key, share)
    with pytest.raises(UserError, match=f"config.{key} = {share} is out of"):
      configs.check(config)


@pytest.mark.parametrize(
  ("key", "value", "says"),
  [
    ("generator.encoder", "relation", "one of sinusoidal, none"),
    ("generator.item_embedding", "pretrained", "did you mean 'rec_id'"),
    ("recid.method", "graph_rqvae", "did you mean 'features'"),
    ("evaluation.beam_width", 20, "at least the largest"),
  ],
)
def test_tiger_has_no_vectors_to_choose(key, value, says):
  config = configs.default_config("tiger")
  configs.check(config)
  assert "embed" not in config
  configs.set_value(config, key, value)
  with pytest.raises(UserError, match=says):
    configs.check(config)


def test_a_files_choices_reach_tiger_where_it_has_the_stage():
  config = configs.from_preset(
    {
      "name": "x",
      "embed": {"epochs": 3},
      "generator": {"epochs": 5, "heads": 8},
      "models": {"tiger": {"generator": {"epochs": 7}}, "mf": {"l2": 1.0}},
    },
    "tiger",
  )
  assert (config.name, config.system) == ("x-tiger", "tiger")
  assert (config.generator.epochs, config.generator.heads) == (7, 8)


def test_a_files_evaluation_reaches_what_has_it():
  chosen = {
    "beam_width": 30,
    "batch_size": 16,
    "rescore": {"scores": ("ease",)},
  }
  choices = {"name": "x", "evaluation": chosen}
  of = lambda preset: configs.from_preset(choices, preset).evaluation
  assert (of("").beam_width, of("").rescore.scores) == (30, ("ease",))
  assert of("tiger").beam_width == 30 and "rescore" not in of("tiger")
  assert of("mf").batch_size == 16 and "beam_width" not in of("mf")
  with pytest.raises(UserError, match="did you mean config.*beam_width"):
    configs.from_preset({"evaluation": {"beamwidth": 3}}, "")


@pytest.mark.parametrize("choices", [{"embedding": "latice"}, {}])
def test_a_misspelt_embedding_is_named(choices):
  preset = "" if choices else "embedding=latice"
  with pytest.raises(UserError, match="=latice: did you mean 'lattice'"):
    configs.from_preset({"name": "x", **choices}, preset)


def test_a_files_choices_reach_the_embedding_that_is_chosen():
  choices = {
    "name": "x",
    "embedding": "mf",
    "embed": {"epochs": 3},
    "models": {"mf": {"l2": 0.5}, "vbpr": {"l2": 0.25}},
  }
  of = lambda preset: configs.from_preset(choices, preset)
  assert (of("").embedding, of("").model.l2) == ("mf", 0.5)
  assert of("embedding=vbpr").model.l2 == 0.25
  assert of("embedding=vbpr").name == "x-embedding-vbpr"
  assert of("embedding=gcn").embed.epochs == 3
  for preset in ("", "embedding=vbpr", "embedding=gcn", "mf", *configs.PRESETS):
    configs.check(of(preset))


def test_lattices_graph_is_set_only_where_it_has_one():
  config = configs.default_config("lattice")
  configs.set_value(config, "model.layers", 3)
  configs.check(config)
  configs.set_value(config, "model.users", "history")
  with pytest.raises(UserError, match="no effect unless .*users is 'graph'"):
    configs.check(config)


def test_the_paper_has_neither_another_embedding_nor_re_scoring():
  config = configs.from_preset({"name": "x", "embedding": "mf"}, "paper")
  assert config.embedding == "gcn"
  assert config.evaluation.rescore.scores == ()
  assert config.norm_powers == (0.0,)


def test_distilled_changes_the_generator_alone():
  file = {"name": "x", "embedding": "mf", "generator": {"epochs": 7}}
  plain = configs.from_preset(file, "")
  distilled = configs.from_preset(file, "distilled")
  changed = {
    key
    for key, value in configs.flatten(distilled)
    if dict(configs.flatten(plain))[key] != value
  }
  assert all(key.startswith("generator.") for key in changed - {"name"})
  assert distilled.name == "x-distilled"
  generator = distilled.generator
  assert (generator.soft_targets.teacher, generator.soft_targets.share) == (
    "rescored", 1.0,
  )  # fmt: skip
  # Over the file's choice, and never cut short.
  assert generator.epochs > 7 and generator.patience >= generator.epochs


@pytest.mark.parametrize("powers", [(), (0.0, 1.5), (-0.5,)])
def test_powers_of_the_norm_are_from_0_to_1(powers):
  config = configs.default_config()
  configs.set_value(config, "norm_powers", powers)
  with pytest.raises(UserError, match="norm_powers.*from 0"):
    configs.check(config)


@pytest.mark.parametrize("scores", [("text",), ("ease", "ease"), (0.5,)])
def test_what_re_scores_is_one_of_four(scores):
  config = configs.default_config()
  configs.set_value(config, "evaluation.rescore.scores", scores)
  with pytest.raises(UserError, match=r"rescore.scores = .*profile, ease, or"):
    configs.check(config)


def test_ease_in_the_re_scoring_needs_its_penalty():
  config = configs.default_config()
  configs.set_value(config, "evaluation.rescore.ease.l2", 0)
  with pytest.raises(UserError, match="ease.l2 = 0"):
    configs.check(config)
  configs.set_value(config, "evaluation.rescore.scores", ("embedding",))
  configs.check(config)


def test_tables_that_are_left_as_they_are_do_not_decay():
  config = configs.default_config("mmgcn")
  configs.set_value(config, "model.train_tables", False)
  configs.check(config)
  configs.set_value(config, "model.optimizer.weight_decay", 0.1)
  with pytest.raises(UserError, match="weight_decay = 0.1: .*train_tables"):
    configs.check(config)


def test_unknown_preset_is_named():
  with pytest.raises(
    UserError, match="'papper'.*did you mean 'paper'.*lightgcn.*tiger"
  ):
    configs.from_preset({}, "papper")


def test_differences_name_each_setting():
  a, b = configs.default_config(), configs.default_config()
  b.generator.heads = 8
  b.recid.update(ignore_health=True, min_r2=0.0)  # says only that it may go on
  b.evaluation.batch_size = 2  # users at a time
  assert configs.differences(a.to_dict(), a.to_dict()) == []
  assert configs.differences(a.to_dict(), b.to_dict()) == [
    "config.generator.heads: 2 there, 8 now"
  ]
