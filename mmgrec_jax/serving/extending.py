"""A trained run for items and users that came later; nothing is trained."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmgrec_jax.arrays import write_arrays
from mmgrec_jax.data.dataset import TRAIN, Dataset
from mmgrec_jax.errors import UserError
from mmgrec_jax.files import write_folder
from mmgrec_jax.models import settings as baselines
from mmgrec_jax.models.item_item import ease_gib
from mmgrec_jax.recid.assign import RecIds, load_rec_ids, save_rec_ids
from mmgrec_jax.recid.extend import later_rec_ids
from mmgrec_jax.serving.recommendation import rows_by_id
from mmgrec_jax.serving.systems import fold_in, mean_of_rows
from mmgrec_jax.serving.trained import (
  Trained,
  best_of,
  known_users,
  trained_items,
  vectors_file,
  wants_mix,
)
from mmgrec_jax.serving.unseen import learn_map
from mmgrec_jax.stages.content import save_content
from mmgrec_jax.stages.embed import build_rqvae
from mmgrec_jax.stages.item_item import read_matrix
from mmgrec_jax.stages.load import normalised_features
from mmgrec_jax.stages.rankers import reads_in_time
from mmgrec_jax.stages.rescoring import EASE, Found, read_found
from mmgrec_jax.stages.vectors import read_vectors
from mmgrec_jax.workdir import EXTENDED, Workdir

# Whose checkpoints go along.
STAGES = ("generate", "embed/rqvae")


class Match(NamedTuple):
  """Rows of a run that rows of a later data set are; -1: new. int [U], [I]."""

  user_U: np.ndarray
  item_I: np.ndarray


def extend(
  run: Trained, data: Dataset, place: Path, out: Path, boost: float = 1.0
) -> dict:
  """Writes a workdir that recommends for `data` as the run does for its own.

  What the run knows keeps its vectors and Rec-IDs. New items have vectors
  mapped from their features, and Rec-IDs by the run's quantizer. New users, and
  those who had no training item, have vectors folded in from those of now.

  Args:
    data: has the run's items, and more; `place` is its folder.
    boost: new items' vectors are as many times as long as the map has them,
      which is short: it knows them less well.

  Returns:
    what extended.json holds: counts, and how much of the vectors of an unseen
    item its features explain.

  Raises:
    UserError: the run cannot be extended or the data set is not its own with
      more in it.
  """
  check_extends(run)
  match = match_rows(run.data, data)
  check_reads_alike(run, data)
  vectors = read_vectors(vectors_file(run), run.data)
  features = normalised_features(run.config, data, scale_of_I=match.item_I >= 0)
  vectors, mapped = later_vectors(run, data, features, match, vectors, boost)
  rec_ids = None
  if "generator" in run.config:
    rec_ids = extend_rec_ids(run, vectors["item"], match)
    vectors["codes"] = rec_ids.tokens_IxM[:, :-1]
  about = {
    "new_items": int((match.item_I < 0).sum()),
    "new_users": int((match.user_U < 0).sum()),
    "users_gone": run.data.n_users - int((match.user_U >= 0).sum()),
    "boost": boost,
    **mapped,
  }
  config = run.config.copy_and_resolve_references()
  config.data = str(place)
  with write_folder(out) as scratch:
    folder = Workdir(scratch, config, data)
    path = vectors_file(Trained(scratch, config, data))
    write_arrays(path, vectors)
    if rec_ids is not None:
      save_rec_ids(rec_ids, scratch / "recids.npz")
      for stage in STAGES:
        shutil.copytree(run.folder / stage, scratch / stage)
      if wants_mix(config):
        folder.write_json("rescore.json", dict(later_mix(run, match, scratch)))
      if (run.folder / "content.npz").is_file():
        save_content(config, features, scratch, match.item_I >= 0)
    folder.write_json(EXTENDED, about)
  return about


def check_extends(run: Trained) -> None:
  """Raises UserError where parts of the run are of its own items alone."""
  config, why = run.config, None
  if config.system in (*baselines.ITEM_ITEM, "tiger"):
    why = f"{config.system} has no vectors to map features to"
  elif "generator" in config:
    reads, method = config.generator.item_embedding, config.recid.method
    if reads not in ("pretrained", "rec_id"):
      why = (
        f"config.generator.item_embedding = {reads!r} has trained a row for"
        " each item; 'pretrained' and 'rec_id' do not"
      )
    elif method != "graph_rqvae":
      why = (
        f"config.recid.method = {method!r}; only 'graph_rqvae' has a quantizer"
        " of vectors"
      )
    for stage in STAGES:
      if not (run.folder / stage).is_dir():
        raise UserError(f"{run.folder}: no checkpoint in {stage}/.")
  if why:
    raise UserError(f"{run.folder}: this run cannot be extended: {why}.")


def check_reads_alike(run: Trained, data: Dataset) -> None:
  """Raises UserError where the run's histories or features are not as now."""
  in_time = reads_in_time(run.config, run.data)
  if in_time != reads_in_time(run.config, data):
    there = ("no timestamps", "with") if in_time else ("timestamps", "without")
    raise UserError(
      f"{data.name}: has {there[0]}, and the run has read histories"
      f" {'newest first' if in_time else 'in no order'}; prepare it {there[1]}"
      " a time column."
    )
  gone = run.data.features.keys() - data.features.keys()
  if gone and "generator" in run.config:
    raise UserError(
      f"{data.name}: no feat_{min(gone)}.npy, which the run was made with; add"
      " it, a row for each item."
    )


def match_rows(known: Dataset, data: Dataset) -> Match:
  """Rows by id; 196 and "196" are the same.

  Raises:
    UserError: an item that the run knows is gone.
  """

  def rows(ids, known_ids):
    row_of = rows_by_id(known_ids)
    found = [row_of.get(str(name), -1) for name in ids.tolist()]
    return np.array(found, np.int64)

  item_I = rows(data.item_ids, known.item_ids)
  gone = np.setdiff1d(np.arange(known.n_items), item_I)
  if len(gone):
    raise UserError(
      f"{data.name}: item {str(known.item_ids[gone[0]])!r} of the run is not in"
      f" it ({len(gone):,} are not). Keep all of them, in any order, so that no"
      " Rec-ID is ever another item's (prepare does with --all_items);"
      " recommend takes --exclude for what is gone."
    )
  return Match(rows(data.user_ids, known.user_ids), item_I)


def later_vectors(
  run: Trained,
  data: Dataset,
  features: dict[str, np.ndarray],
  match: Match,
  trained: dict[str, np.ndarray],
  boost: float,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
  """`user` and `item` vectors of all in `data`; `known_users`, `trained_items`.

  Args:
    features: of `data`, by modality, normalised on the scale of known items.
    trained: the run's, by name.  boost: as of `extend`.

  Returns:
    these arrays, and about new items, if there are any: `features_explain`,
    `LinearMap.r2`, and `known_are_longer`, how many times their vectors are
    longer than the map's.

  Raises:
    UserError: there are new items, but no features.
  """
  new_I, row_I = match.item_I < 0, np.maximum(match.item_I, 0)
  trained_I = ~new_I & trained_items(run)[row_I]
  h_item, about = trained["item"][row_I], {}
  if new_I.any():
    if not data.features:
      raise UserError(
        f"{data.name}: {new_I.sum():,} new items, but no feat_<modality>.npy"
        " to have their vectors from."
      )
    x_IxF = np.concatenate(list(features.values()), axis=1)
    mapped = learn_map(x_IxF[trained_I], h_item[trained_I], run.config.seed)
    h_new = mapped(x_IxF[new_I])
    length = lambda h: max(float(np.linalg.norm(h, axis=1).mean()), 1e-12)
    about["features_explain"] = mapped.r2
    about["known_are_longer"] = length(h_item[trained_I]) / length(h_new)
    h_item[new_I] = boost * h_new
  row_U, later = np.maximum(match.user_U, 0), data.rows(TRAIN)
  h_user = trained["user"][row_U]
  # Whom the run has, but no training item of, has an untrained vector.
  new_U = (match.user_U < 0) | ~known_users(run)[row_U]
  if new_U.any():
    fold_DxD = fold_in(trained["user"], trained["item"], run.data.rows(TRAIN))
    h_user[new_U] = (mean_of_rows(h_item, later) @ fold_DxD)[new_U]
  known_U = ~new_U | (later.lengths > 0)
  arrays = {"user": h_user, "item": h_item}
  return {**arrays, "known_users": known_U, "trained_items": trained_I}, about


def extend_rec_ids(run: Trained, h_item: np.ndarray, match: Match) -> RecIds:
  """The run's Rec-IDs, and those of new items.

  Raises:
    UserError: no Rec-IDs are left, or the quantizer's checkpoint is gone.
  """
  published = load_rec_ids(run.folder / "recids.npz", run.data.n_items)
  new_I = match.item_I < 0
  tokens_IxM = published.tokens_IxM[np.maximum(match.item_I, 0)]
  if new_I.any():
    encode, codebooks = reload_quantizer(run, h_item.shape[1])
    tokens_IxM[new_I] = later_rec_ids(
      published, encode(h_item[new_I]), codebooks
    )
  return RecIds(tokens_IxM, published.vocabulary)


def later_mix(run: Trained, match: Match, scratch: Path) -> Found:
  """What rescore.json will hold; writes EASE's matrix, if that has a part.

  Raises:
    UserError: the run's is missing or damaged.
  """
  found = read_found(run.folder)
  if EASE not in found["mmgrec"]:
    return found
  n_items, settings = len(match.item_I), run.config.evaluation.rescore.ease
  if ease_gib(n_items) > settings.max_gib:
    print(
      f"re-scoring goes on without EASE, whose matrix of {n_items:,} items is"
      " more than config.evaluation.rescore.ease.max_gib of the run allows"
    )
    return {"mmgrec": found["without_ease"]}
  later_ease(run, match, scratch)
  return found


def later_ease(run: Trained, match: Match, scratch: Path) -> None:
  """The run's matrix with rows and columns of zeros for new items."""
  path = run.folder / "item_item.npz"
  known_IxI = read_matrix(path, "ease", run.data.n_items)["weight_IxI"]
  (known_I,) = np.nonzero(match.item_I >= 0)
  row_I = match.item_I[known_I]
  weight_IxI = np.zeros((len(match.item_I),) * 2, np.float32)
  weight_IxI[np.ix_(known_I, known_I)] = known_IxI[np.ix_(row_I, row_I)]
  write_arrays(scratch / "item_item.npz", {"weight_IxI": weight_IxI})


def reload_quantizer(run: Trained, width: int) -> tuple[Callable, np.ndarray]:
  """h [N, width] -> z [N, Z], and the codebooks [S, L, Z]: the best checkpoint.

  Raises:
    UserError: there is none.
  """
  model = build_rqvae(run.config)
  like_1xD = jnp.zeros((1, width))
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), like_1xD))
  params = best_of(run, "embed/rqvae", shapes["params"])

  def encode(h_NxD):
    z_NxZ, *_ = model.apply({"params": params}, jnp.asarray(h_NxD))
    return np.asarray(z_NxZ)

  return encode, params["codebooks"]
