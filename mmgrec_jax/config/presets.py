"""What a config file and the word after its colon choose."""

import difflib

from mmgrec_jax.config.defaults import (
  EMBEDDING,
  EMBEDDINGS,
  SYSTEMS,
  Config,
  default_config,
  model_name,
)
from mmgrec_jax.config.values import flatten, set_value
from mmgrec_jax.errors import UserError

# The paper's settings (§4.3): SGD, learning rate 1e-3, L2 1e-5, one target for
# each history, softmax over the whole vocabulary.
_PAPER_SGD = {
  "name": "sgd",
  "learning_rate": 1e-3,
  "weight_decay": 1e-5,
  "schedule": "constant",
  "warmup": 0.0,
}
PAPER = {
  "norm_powers": (0.0,),
  # K beams for the top K (§3.4), 10 (§4.1).
  "evaluation": {
    "rescore": {"scores": ()},
    "cutoffs": (5, 10),
    "beam_width": 10,
    "valid_beam_width": 10,
  },
  "embed": {
    "batch_size": 3000,
    "l2": 0.0,
    "last_activation": True,
    "epochs": 1000,
    # L_bpr of eq. 10 is a sum, of 3000 triples, where ours is their mean. The
    # decay of a step is their product: it is as of the sum with 1e-3 and 1e-5.
    # Another batch_size needs another rate.
    "optimizer": {
      **_PAPER_SGD,
      "learning_rate": 3000 * 1e-3,
      "weight_decay": 1e-5 / 3000,
    },
  },
  "rqvae": {"batch_size": 3000, "epochs": 1000, "optimizer": _PAPER_SGD},
  "generator": {
    "batch_size": 3000,
    "targets_per_history": 1,
    "soft_targets": {"share": 0.0},
    "trie_softmax": False,
    "dropout": 0.1,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "heads": 4,
    "decoder_head_width": 64,
    "feed_forward": 256,
    "epochs": 1000,
    "eval_every": 1,
    # The momentum is the public code's.
    "optimizer": {**_PAPER_SGD, "momentum": 0.99},
  },
}
# The re-scored vectors teach the beams, for long, and nothing else does.
DISTILLED = {
  "generator": {
    "soft_targets": {"teacher": "rescored", "share": 1.0, "sharpness": 1.0},
    "user_token": True,
    "decoder_layers": 2,
    "feed_forward": 512,
    "epochs": 100,
    # The last epochs, of small steps, bring the most.
    "patience": 100,
    "eval_every": 5,
    "optimizer": {"name": "muon"},
  },
}
# MMGRec with other settings.
PRESETS = {"paper": PAPER, "distilled": DISTILLED}


def from_preset(overrides: dict, preset: str) -> Config:
  """The config of a file and what follows its colon.

  Args:
    overrides: the file's own choices, nested as the settings are; under
      `models`, those of `config.model` by baseline, and TIGER's by stage.
    preset: '' for the tuned defaults, one of `PRESETS` or of `SYSTEMS`, or
      'embedding=' and one of `EMBEDDINGS`.
  """
  overrides = dict(overrides)
  of_models = overrides.pop("models", {})
  system, embedding = chosen(preset, overrides.pop("embedding", EMBEDDING))
  config = default_config(system, embedding)
  # What speaks of stages that the system has not does not concern it.
  has, any_has = (dict(flatten(c)) for c in (config, default_config()))
  sources = [
    {
      key: value
      for key, value in flatten(overrides)
      if key in has or key not in any_has
    }
  ]
  if system == "tiger":
    sources.append(of_models.get("tiger", {}))
  elif "model" in config:
    sources.append({"model": of_models.get(model_name(config), {})})
  if preset in PRESETS:
    sources.append(PRESETS[preset])
  for source in sources:
    for key, value in flatten(source):
      set_value(config, key, value)
  if preset:
    config.name = f"{config.name}-{preset.replace('=', '-')}"
  return config


def chosen(preset: str, embedding: str = EMBEDDING) -> tuple[str, str]:
  """The system and, for mmgrec, its embedding.

  Args:
    embedding: that of a preset which names none.

  Raises:
    UserError: one of them names nothing.
  """
  if preset == "paper":
    return "mmgrec", "gcn"
  if preset in SYSTEMS:
    return preset, "gcn"
  word, named, name = preset.partition("=")
  if preset and preset not in PRESETS and word != "embedding":
    known = (*PRESETS, *SYSTEMS)
    near = difflib.get_close_matches(preset, known, 1, 0.0)[0]
    raise UserError(
      f"Nothing is called {preset!r} after the colon; did you mean {near!r}?"
      " There are paper (MMGRec's own settings), distilled (MMGRec whose beams"
      " learn from the re-scored vectors alone), embedding=NAME (MMGRec on"
      f" another model's vectors) and {', '.join(SYSTEMS)}."
    )
  name = name if named else embedding
  if name not in EMBEDDINGS:
    near = difflib.get_close_matches(name, EMBEDDINGS, 1, 0.0)[0]
    raise UserError(
      f"embedding={name}: did you mean {near!r}? It is one of"
      f" {', '.join(EMBEDDINGS)}."
    )
  return "mmgrec", name
