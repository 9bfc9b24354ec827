"""A whole evaluation by beam search: every switch on, and every switch off.

Command: python -m experiments.benchmarks.evaluate --out=runs/benchmarks

Made-up interactions of MovieLens-100K's size and the model of
configs/ml100k.py with random weights: the 100 best items of every user, scored.
Off: attention as the paper writes it, a dense trie, the model asked for every
beam, every history padded to the longest, 128 users at a time. Times are per
user.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.graph import Size, made_up_interactions
from experiments.benchmarks.harness import Contestant, Run, main
from mmgrec_jax.config import Config, default_config
from mmgrec_jax.data.dataset import TRAIN, Dataset
from mmgrec_jax.data.split import split_interactions
from mmgrec_jax.decoding.generate import generate
from mmgrec_jax.decoding.trie import build_trie
from mmgrec_jax.evaluation.evaluate import evaluate
from mmgrec_jax.evaluation.ranking import Ranker
from mmgrec_jax.models.generator import Vectors
from mmgrec_jax.recid.assign import RecIds, assign_rec_ids
from mmgrec_jax.stages.generate import build_generator
from mmgrec_jax.stages.rankers import users_at_a_time
from mmgrec_jax.training import parallel

FULL = Size(943, 1_349, 99_000, 0.9)
NEVER = 10**12  # slots that another compiled program would have to save
SMALL = Size(20, 60, 300, 0.5)


def make_data(size: Size) -> Dataset:
  user_E, item_E = made_up_interactions(size, np.random.default_rng(0))
  return Dataset(
    name="made up",
    user_E=user_E.astype(np.int32),
    item_E=item_E.astype(np.int32),
    split_E=split_interactions(user_E, seed=0),
    features={},
    user_ids=np.arange(size.n_users),
    item_ids=np.arange(size.n_items),
  )


def make_config(small: bool) -> Config:
  config = default_config()
  config.generator.history_length = 64
  if small:
    config.width = 8
    config.generator.update(encoder_head_width=8, decoder_head_width=4)
    config.evaluation.update(beam_width=6, batch_size=8)
  return config


def evaluation(
  config: Config, data: Dataset, ids: RecIds, vectors: Vectors, fast: bool
) -> Callable[[], np.ndarray]:
  """A call that evaluates everyone: each user's Recall@5."""
  config = config.copy_and_resolve_references()
  config.generator.folded = config.generator.skip_sure = fast
  model = build_generator(config, ids, vectors)

  def recommend(params, user_B, history_BxH, seen_BxS):
    weights, vectors, trie = params
    return generate(
      model,
      weights,
      vectors,
      trie,
      user_B,
      history_BxH,
      config.generator.history_length,
      config.evaluation.beam_width,
      seen_BxS=seen_BxS,
    )

  def init(vectors):
    token_1x1xM = jnp.zeros((1, 1, model.levels), jnp.int32)
    user_1, history_1x1 = token_1x1xM[0, 0, :1], token_1x1xM[0, :, :1]
    key = jax.random.key(0)
    made: Any = model.init(
      key, vectors, user_1, history_1x1, token_1x1xM, train=False
    )
    return made["params"]

  buckets: Any = {} if fast else {"program_slots": NEVER}
  ranker = Ranker(
    recommend,
    data.rows(TRAIN),
    users_at_a_time(config, config.evaluation.beam_width)
    if fast
    else config.evaluation.batch_size,
    config.seed,
    **buckets,
  )
  trie = build_trie(ids, "packed" if fast else "dense")
  arguments = parallel.replicate((jax.jit(init)(vectors), vectors, trie))
  return lambda: evaluate(ranker, arguments, data, "test", [5])["recall@5"]


def measure(run: Run) -> None:
  data = make_data(SMALL if run.small else FULL)
  config = make_config(run.small)
  rng = np.random.default_rng(1)
  ids = assign_rec_ids(
    rng.integers(0, config.rqvae.codebook_size, (data.n_items, 3)),
    config.rqvae.codebook_size,
    data.popularity(),
  )
  draw = lambda n: jnp.asarray(rng.normal(size=(n, config.width)), jnp.float32)
  vectors = Vectors(draw(data.n_users), draw(data.n_items))
  contestants = [
    Contestant(name, evaluation(config, data, ids, vectors, fast), data.n_users)
    for name, fast in (("ours", True), ("switches off", False))
  ]
  results = run.measure("evaluate", contestants, ours="ours")
  equal = np.mean(results["ours"] == results["switches off"])
  run.agree("evaluate: users with equal Recall@5", equal, at_least=0.99)


if __name__ == "__main__":
  main("evaluate", measure)
