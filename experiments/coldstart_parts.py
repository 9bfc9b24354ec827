"""Items and users held out of training, and how well a run serves them."""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy import sparse

from mmgrec_jax.data.dataset import TEST, TRAIN, VALID, Dataset
from mmgrec_jax.data.features import normalise_features
from mmgrec_jax.errors import UserError
from mmgrec_jax.evaluation.evaluate import countable_users, score_lists
from mmgrec_jax.serving.recommendation import Recommendation
from mmgrec_jax.serving.recommender import Recommender
from mmgrec_jax.serving.trained import Trained

K = 10
NEIGHBOURS = 100  # of the content-based ranking, as many as itemknn has
Scores = Mapping[str, float]
# (users [N], choose_I bool) -> item rows of `Held.later`, [N, K], -1 = ended.
Rank = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Held(NamedTuple):
  """A data set without some items and users, and with them again.

  train: of what is known alone.
  later: the whole; interactions with held-out items are all of the test split.
  item_I, user_U: bool, which rows of `later` are new.
  """

  train: Dataset
  later: Dataset
  item_I: np.ndarray
  user_U: np.ndarray


def hold_out(data: Dataset, share: float, seed: int) -> Held:
  """Takes a share of the items and of the users out, drawn at random.

  Users who have no training item left are new as well.

  Raises:
    UserError: that is none or all of them.
  """
  rng = np.random.default_rng(seed)

  def drawn(what: str, n: int) -> np.ndarray:
    count = round(share * n)
    if not 0 < count < n:
      raise UserError(
        f"--share={share}: that is {count} of {n:,} {what}; some must be held"
        " out, and some left."
      )
    return np.isin(np.arange(n), rng.choice(n, count, replace=False))

  item_I, user_U = drawn("items", data.n_items), drawn("users", data.n_users)
  known_E = ~item_I[data.item_E]
  trained_E = known_E & (data.split_E == TRAIN)
  user_U |= np.bincount(data.user_E[trained_E], minlength=data.n_users) == 0
  known_E &= ~user_U[data.user_E]
  of_items = lambda a: None if a is None else a[~item_I]
  train = dataclasses.replace(
    data,
    user_E=(np.cumsum(~user_U) - 1)[data.user_E[known_E]].astype("i4"),
    item_E=(np.cumsum(~item_I) - 1)[data.item_E[known_E]].astype("i4"),
    split_E=data.split_E[known_E],
    timestamp_E=None if data.timestamp_E is None else data.timestamp_E[known_E],
    features={name: f[~item_I] for name, f in data.features.items()},
    user_ids=data.user_ids[~user_U],
    item_ids=data.item_ids[~item_I],
    titles=of_items(data.titles),
    pictures=of_items(data.pictures),
  )
  split_E = np.where(item_I[data.item_E], TEST, data.split_E).astype(np.int8)
  later = dataclasses.replace(data, split_E=split_E)
  return Held(train, later, item_I, user_U)


def asked(held: Held, new_items: bool, new_users: bool) -> Dataset:
  """`later` with only such items of such users in the test split."""
  data = held.later
  wanted_E = held.item_I[data.item_E] == new_items
  wanted_E &= held.user_U[data.user_E] == new_users
  split_E = np.where(
    (data.split_E == TEST) & ~wanted_E, VALID, data.split_E
  ).astype(np.int8)
  return dataclasses.replace(data, split_E=split_E)


class Runs(NamedTuple):
  """Each with its data.

  extended, boosted: from what is known to the whole; new items' vectors as
    they are and times BOOST.
  itemknn: of what is known.  whole: trained on all of it.
  """

  extended: Trained
  boosted: Trained
  itemknn: Trained
  whole: Trained


def score_all(held: Held, runs: Runs) -> dict[str, dict[str, Scores]]:
  """What is asked -> system -> mean Recall@10 and NDCG@10."""
  extended, beams = recommender(runs.extended), beams_alone(runs.extended)
  whole, boosted = recommender(runs.whole), recommender(runs.boosted)
  of_new = asked(held, new_items=True, new_users=False)
  of_known = asked(held, new_items=False, new_users=False)
  to_new = asked(held, new_items=False, new_users=True)
  all_I = np.full(len(held.item_I), True)
  by_features = {
    "chance": at_random(held),
    "content-kNN": by_content(held, NEIGHBOURS),
    "content, all neighbours": by_content(held, None),
  }
  by_run = {
    "embedding, extended": by_vectors(extended),
    "generator, extended": by_recommender(beams),
    "mmgrec, extended": by_recommender(extended),
  }
  boost = {"mmgrec, extended and boosted": by_recommender(boosted)}
  with_them = {
    "embedding, trained with them": by_vectors(whole),
    "mmgrec, trained with them": by_recommender(whole),
  }
  itemknn = {"itemknn": by_history(recommender(runs.itemknn), extended)}
  return {
    "new items, among themselves": scored(
      of_new, held.item_I, {**by_features, **by_run}
    ),
    "new items, among all": scored(
      of_new, all_I, {**by_features, **by_run, **boost}
    ),
    "known items, among themselves": scored(of_known, ~held.item_I, by_run),
    "known items, among all": scored(of_known, all_I, {**by_run, **boost}),
    "new users": scored(
      to_new, ~held.item_I, {**itemknn, **by_run, **with_them}
    ),
  }


def recommender(run: Trained) -> Recommender:
  """Of a run, reading of a user what the evaluation does."""
  return Recommender(run, seen="train")


def beams_alone(run: Trained) -> Recommender:
  """Of a run, without re-scoring."""
  config = copy.deepcopy(run.config)
  config.evaluation.rescore.scores = ()
  return recommender(run._replace(config=config))


def scored(
  truth: Dataset, choose_I: np.ndarray, systems: Mapping[str, Rank]
) -> dict[str, Scores]:
  """Means over the users who have something in the test split.

  Args:
    choose_I: bool, items to choose from.
  """
  users = countable_users(truth, "test")
  found = {}
  for name, rank in systems.items():
    scores = score_lists(rank(users, choose_I), users, truth, "test", [K])
    found[name] = {metric: float(v.mean()) for metric, v in scores.items()}
  return found


def by_recommender(recommend: Recommender) -> Rank:
  """Lists of a run, in rows of its data set, which are those of `later`."""

  def rank(users, choose_I):
    data = recommend.data
    lists = recommend.recommend(
      data.user_ids[users], K, only=data.item_ids[choose_I]
    )
    return as_rows(recommend, lists)

  return rank


def by_history(known: Recommender, later: Recommender) -> Rank:
  """Lists of a run that knows no user, from their histories."""

  def rank(users, choose_I):
    del choose_I  # it knows no other items
    rows, ids = later.seen_rows, later.data.item_ids
    histories = [ids[rows.of(user)] for user in users]
    return as_rows(later, known.recommend_to_new(histories, K))

  return rank


def as_rows(of: Recommender, lists: list[Recommendation]) -> np.ndarray:
  """Item rows, -1 where a list ended. [N, K]."""
  out = np.full((len(lists), K), -1)
  for row, one in zip(out, lists, strict=True):
    row[: len(one.items)] = [of.catalogue.item_row(i) for i in one.items]
  return out


def by_vectors(recommend: Recommender) -> Rank:
  """The largest h_u . h_i, exactly."""

  def rank(users, choose_I):
    h_user, h_item = map(np.asarray, recommend.system.vectors)
    return top(recommend.data, users, choose_I, lambda u: h_user[u] @ h_item.T)

  return rank


def by_content(held: Held, neighbours: int | None) -> Rank:
  """What a user's items say for an item: the cosine of features, added up.

  Args:
    neighbours: of each item, those known ones that count; None: all.
  """

  data = held.later
  user_E, item_E = data.edges(TRAIN)
  x_UxI = sparse.csr_array(
    (np.ones(len(user_E)), (user_E, item_E)), (data.n_users, data.n_items)
  )
  similar_IxI = similarities(held, neighbours)

  def rank(users, choose_I):
    return top(data, users, choose_I, lambda u: x_UxI[u] @ similar_IxI)

  return rank


def similarities(held: Held, neighbours: int | None) -> np.ndarray:
  """Cosines of known items (rows) and all items (columns), [I, I]; 0 where it
  is negative or the known item is not among the column's nearest."""
  parts = [
    normalise_features(feature, "zscore_l2", ~held.item_I)
    for feature in held.later.features.values()
  ]
  x_IxF = np.concatenate(parts, axis=1) / len(parts) ** 0.5
  similar_IxI = np.maximum(x_IxF @ x_IxF.T, 0)
  np.fill_diagonal(similar_IxI, 0)
  similar_IxI[held.item_I] = 0
  if neighbours is not None and neighbours < len(x_IxF):
    least_I = -np.partition(-similar_IxI, neighbours - 1, axis=0)[
      neighbours - 1
    ]
    similar_IxI[similar_IxI < least_I[None]] = 0
  return similar_IxI


def at_random(held: Held) -> Rank:
  rng = np.random.default_rng(0)
  n_items = held.later.n_items

  def rank(users, choose_I):
    return top(
      held.later, users, choose_I, lambda u: rng.random((len(u), n_items))
    )

  return rank


def top(data: Dataset, users, choose_I, score: Callable) -> np.ndarray:
  """The K best unseen items by a score, [N, K]; -1 where there are fewer.

  Args:
    score: users int [n] -> [n, I].
  """
  seen = data.rows(TRAIN)
  lists = []
  for start in range(0, len(users), 256):
    some = users[start : start + 256]
    scores_NxI = np.where(choose_I[None], score(some), -np.inf)
    for row, user in zip(scores_NxI, some, strict=True):
      row[seen.of(user)] = -np.inf
    best_NxK = np.argsort(-scores_NxI, axis=1, kind="stable")[:, :K]
    left = np.take_along_axis(scores_NxI, best_NxK, axis=1) > -np.inf
    lists.append(np.where(left, best_NxK, -1))
  return np.concatenate(lists)
