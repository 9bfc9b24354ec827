"""The paper's SGD trains its GCN."""

import json

import pytest

from mmgrec_jax.config import from_preset
from mmgrec_jax.data.synthetic import make_synthetic
from mmgrec_jax.evaluation.evaluate import valid_recall
from mmgrec_jax.stages import embed, rankers, results
from mmgrec_jax.training import parallel
from mmgrec_jax.workdir import Workdir


@pytest.mark.usefixtures("one_device")
def test_a_few_epochs_are_better_than_popularity(tmp_path):
  data = make_synthetic(300, 100, 20)
  config = from_preset({"width": 16}, "paper")
  config.embed.epochs = 60
  config.rqvae.update(epochs=1, steps_per_epoch=2, codebook_size=16)
  embed.embed(config, data, Workdir(tmp_path, config, data))
  text = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8")
  lines = map(json.loads, text.splitlines())
  best = max(line["valid"] for line in lines if line["stage"] == "embed")
  ranker = rankers.inner_product_ranker(config, data, 10)
  vectors = parallel.replicate(results.popularity_vectors(data))
  popular = valid_recall(ranker, vectors, data)
  assert best > popular + 0.05
