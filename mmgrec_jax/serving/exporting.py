"""A recommender as one portable program (jax.export)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from mmgrec_jax.errors import UserError
from mmgrec_jax.nn.history import mean_of_history
from mmgrec_jax.serving.recommender import Recommender


class Exported(NamedTuple):
  """program: of (weights, user_B, history_BxH), where user -1 is someone new.

  weights, ids: arrays by name, as they are to be saved.
  """

  program: bytes
  weights: dict[str, np.ndarray]
  ids: dict[str, np.ndarray]
  about: dict[str, Any]


def export(
  recommender: Recommender,
  k: int,
  longest: int | None,
  platforms: Sequence[str],
) -> Exported:
  """Lowers the run's whole way of recommending for each platform.

  Args:
    longest: items of a history, at most; None: enough for every user.

  Raises:
    UserError: k or `longest` does not fit the data set.
  """
  data, system = recommender.data, recommender.system
  rows = recommender.seen_rows
  most = int(rows.lengths.max(initial=1))
  if longest is None:
    longest = 1 << (most - 1).bit_length()
  if longest < most:
    raise UserError(
      f"--longest is {longest}, but a user has {most} items; give at least"
      " that."
    )
  fold_DxD = None if system.vectors is None else recommender.fold
  leaves, structure = jax.tree.flatten((recommender.params(k), fold_DxD))
  recommend = system.recommend(k)

  def program(leaves, user_B, history_BxH):
    params, fold_DxD = jax.tree.unflatten(structure, leaves)
    B = user_B.shape[0]
    if fold_DxD is not None:
      h_user_UxD, h_item_IxD = system.vectors_of(params)
      own_BxD = h_user_UxD[jnp.maximum(user_B, 0)]
      new_BxD = mean_of_history(h_item_IxD, history_BxH) @ fold_DxD
      h_BxD = jnp.where(user_B[:, None] >= 0, own_BxD, new_BxD)
      params = system.with_users(params, h_BxD)
    items_BxK, scores_BxK = recommend(
      params, jnp.arange(B), history_BxH, history_BxH
    )
    return items_BxK[:, :k], scores_BxK[:, :k]

  (batch,) = jax.export.symbolic_shape("b")
  shaped = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
  lowered = jax.export.export(jax.jit(program), platforms=platforms)(
    [jax.ShapeDtypeStruct(np.shape(a), jnp.asarray(a).dtype) for a in leaves],
    shaped(batch),
    shaped(batch, longest),
  )
  ids = {
    "user_ids": data.user_ids,
    "item_ids": data.item_ids,
    "titles": data.names.astype(str),
    "offset": rows.offset,
    "seen": rows.items,
  }
  if system.rec_ids is not None:
    ids["rec_ids"] = system.rec_ids.tokens_IxM
  return Exported(
    bytes(lowered.serialize()),
    {f"{n:04}": np.asarray(leaf) for n, leaf in enumerate(leaves)},
    ids,
    {
      "name": data.name,
      "fingerprint": data.fingerprint,
      "k": k,
      "longest": longest,
      "jax": jax.__version__,
    },
  )
