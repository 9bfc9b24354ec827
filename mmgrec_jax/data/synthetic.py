"""A catalogue with planted structure, at any size, without a download."""

import numpy as np

from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.data.split import split_interactions

MODALITIES = {"visual": 32, "text": 24}


def make_synthetic(
  n_users: int,
  n_items: int,
  interactions_per_user: int,
  n_tastes: int = 8,
  seed: int = 0,
) -> Dataset:
  """Users with tastes choose items whose features show what they are.

  Each item belongs mostly to one taste; its features are a noisy linear view
  of that, a different one for each modality. A user mixes two tastes. The
  chance of an interaction grows with taste match and with the item's
  popularity (Zipf), so features, collaboration and popularity all help.
  """
  rng = np.random.default_rng(seed)
  item_taste = rng.dirichlet(np.full(n_tastes, 0.1), n_items)
  user_taste = rng.dirichlet(np.full(n_tastes, 0.25), n_users)
  log_skew = -0.8 * np.log1p(rng.permutation(n_items))
  per_user = np.clip(
    rng.poisson(interactions_per_user, n_users), 3, max(n_items // 2, 1)
  )
  users, items = [], []
  for u in range(n_users):
    # Gumbel top-n: a draw without replacement from the softmax of `log_p`.
    log_p = log_skew + 6.0 * item_taste @ user_taste[u]
    noisy = log_p + rng.gumbel(size=n_items)
    n = per_user[u]
    items.append(np.argpartition(-noisy, n - 1)[:n])
    users.append(np.full(n, u))
  user_E = np.concatenate(users).astype(np.int32)
  item_E = np.concatenate(items).astype(np.int32)
  features = {}
  for modality, dim in MODALITIES.items():
    view = rng.normal(size=(n_tastes, dim))
    noise = 0.3 * rng.normal(size=(n_items, dim))
    features[modality] = (item_taste @ view + noise).astype(np.float32)
  taste_of = item_taste.argmax(axis=1)
  return Dataset(
    name=f"synthetic-{n_users}x{n_items}",
    user_E=user_E,
    item_E=item_E,
    split_E=split_interactions(user_E, seed),
    features=features,
    user_ids=np.array([f"user{u}" for u in range(n_users)]),
    item_ids=np.array([f"item{i}" for i in range(n_items)]),
    titles=np.array(
      [f"item {i} of taste {taste_of[i]}" for i in range(n_items)]
    ),
  )
