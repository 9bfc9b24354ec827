"""Stage 2: Graph RQ-VAE turns interactions and features into vectors."""

import jax
import jax.numpy as jnp
import numpy as np

from mmgrec_jax.arrays import write_arrays
from mmgrec_jax.config import Config
from mmgrec_jax.data import neighbours, sampling
from mmgrec_jax.data.dataset import TRAIN, Dataset
from mmgrec_jax.evaluation.evaluate import valid_recall
from mmgrec_jax.files import is_made
from mmgrec_jax.graph import bipartite_graph
from mmgrec_jax.models.generator import Vectors
from mmgrec_jax.models.graph_rqvae import RQVAE, GraphEncoder
from mmgrec_jax.recid.quality import r_squared
from mmgrec_jax.stages.collaborative import train_vectors
from mmgrec_jax.stages.load import joined_features, stage_key
from mmgrec_jax.stages.rankers import inner_product_ranker
from mmgrec_jax.stages.train import train
from mmgrec_jax.stages.vectors import read_vectors
from mmgrec_jax.training import embedding, parallel, quantizing
from mmgrec_jax.training.loop import Schedule
from mmgrec_jax.workdir import Workdir


def embed(config: Config, data: Dataset, folder: Workdir) -> Vectors:
  """h_user and h_item, trained or read from embed/vectors.npz.

  Each at root mean square 1, the scale that the next stages expect; h_u . h_i
  orders items the same at any scale.
  The file also holds the semantic tokens and the reconstruction's R^2, which
  HK-Means has no use for.
  """
  path = folder.path / "embed" / "vectors.npz"
  if not is_made(path):
    if config.embedding == "gcn":
      h_user, h_item = _train_encoder(config, data, folder)
    else:
      h_user, h_item = train_vectors(config, data, folder)
    h_item = _shortened(config, data, folder, h_user, h_item)
    h_user, h_item = _unit(h_user), _unit(h_item)
    arrays = {"user": h_user, "item": h_item}
    if config.recid.method == "features":
      arrays |= _train_rqvae(config, joined_features(config, data), folder)
    elif config.recid.method == "graph_rqvae":
      arrays |= _train_rqvae(config, jnp.asarray(h_item), folder)
    write_arrays(path, arrays)
  return Vectors(*map(jnp.asarray, read_vectors(path, data).values()))


def _shortened(
  config: Config,
  data: Dataset,
  folder: Workdir,
  h_user: np.ndarray,
  h_item: np.ndarray,
) -> np.ndarray:
  """h_item over its norm to that power which is best on validation.

  The longer a vector, the more lists it is in: there the loss puts how much an
  item is liked by all. (Kim et al. 2023, CIKM, take out the whole norm, at test
  time.) Each power's Recall@10 is kept in embed/norm_powers.json. A rehearsal
  takes the first.
  """
  norm_Ix1 = np.maximum(np.linalg.norm(h_item, axis=1, keepdims=True), 1e-12)
  shortened = lambda power: h_item / norm_Ix1**power
  first, *others = config.norm_powers
  if not others or folder.rehearse is not None:
    return shortened(first)
  ranker = inner_product_ranker(config, data, k=10)
  recall = {
    f"{power:g}": valid_recall(
      ranker, parallel.replicate((h_user, shortened(power))), data
    )
    for power in config.norm_powers
  }
  folder.write_json("embed/norm_powers.json", recall)
  best = max(config.norm_powers, key=lambda power: recall[f"{power:g}"])
  tried = ", ".join(f"{power}: {found:.4f}" for power, found in recall.items())
  print(
    f"h_item is divided by its norm to the power {best:g} (validation Recall@10"
    f" by power: {tried})"
  )
  return shortened(best)


def _unit(h: np.ndarray) -> np.ndarray:
  return h / np.sqrt((h**2).mean() + 1e-12)


def embed_features(config: Config, data: Dataset, folder: Workdir) -> None:
  """TIGER's first stage: the RQ-VAE on the features; no GCN, no h.

  Writes embed/vectors.npz with the semantic tokens and R^2 alone.
  """
  path = folder.path / "embed" / "vectors.npz"
  if not is_made(path):
    features = joined_features(config, data)
    write_arrays(path, _train_rqvae(config, features, folder))


def build_encoder(config: Config, data: Dataset) -> GraphEncoder:
  """The module that `config.embed` describes."""
  return GraphEncoder(
    n_users=data.n_users,
    n_items=data.n_items,
    width=config.width,
    layers=config.embed.layers,
    dropout=config.embed.dropout,
    last_activation=config.embed.last_activation,
  )


def build_rqvae(config: Config) -> RQVAE:
  """The module that `config.rqvae` describes."""
  return RQVAE(
    hidden=config.rqvae.hidden,
    latent=config.rqvae.latent,
    levels=config.rqvae.levels,
    codebook_size=config.rqvae.codebook_size,
  )


def _train_encoder(
  config: Config, data: Dataset, folder: Workdir
) -> tuple[np.ndarray, np.ndarray]:
  """Eq. 10, both losses in turn. Returns the best epoch's h."""
  features = joined_features(config, data)
  encoder = build_encoder(config, data)
  graph = bipartite_graph(
    *data.edges(TRAIN), data.n_users, data.n_items, config.graph
  )
  rows = data.rows(TRAIN)
  inputs = embedding.EmbeddingData(
    neighbours.users_of(rows, data.n_items) if config.embed.fan_out else graph,
    features,
    sampling.on_device(rows, data.n_items),
  )
  vectors_of = parallel.everywhere(
    lambda params, inputs: encoder.apply(
      {"params": params}, *inputs, train=False
    )
  )
  inputs_on_all = parallel.replicate((graph, features))
  ranker = inner_product_ranker(config, data, k=10)

  def validate(params) -> float:
    return valid_recall(ranker, vectors_of(params, inputs_on_all), data)

  task = embedding.embedding_task(
    encoder,
    build_rqvae(config),
    inputs,
    config.embed,
    config.rqvae,
    quantize_features=config.recid.method == "features",
    validate=validate,
    key=stage_key(config, 0),
    seed=config.seed,
  )
  schedule = Schedule.of(config.embed, config.train)
  best = train(folder, task, schedule, stage_key(config, 1), "embed/gcn")
  return parallel.unreplicate(
    vectors_of(parallel.replicate(best), inputs_on_all)
  )


def _train_rqvae(
  config: Config, x_IxC: jax.Array, folder: Workdir
) -> dict[str, np.ndarray]:
  """The RQ-VAE on the final h, until it rebuilds it no better."""
  model = build_rqvae(config)
  # It followed h while h moved; the final h deserves a fresh k-means start.
  start = quantizing.init_rqvae(
    model, x_IxC, config.rqvae.codebook_start, stage_key(config, 2), config.seed
  )
  task = quantizing.rqvae_task(model, x_IxC, start, config.rqvae)
  schedule = Schedule.of(config.rqvae, config.train)
  best = train(folder, task, schedule, stage_key(config, 3), "embed/rqvae")
  codes, error_I = quantizing.quantize(model, best, x_IxC)
  return {
    "codes": codes,
    "r2": np.array(r_squared(np.asarray(x_IxC), error_I)),
  }
