import numpy as np

from mmgrec_jax.models import collaborative as cf
from mmgrec_jax.models.mf import MF


def norm_instead_of_square(embedded, inputs, triples, settings):
  """MMRec's penalty: norms of the batch's rows, not squared."""
  total, _ = cf.ranking_objective(embedded, inputs, triples, settings)
  squares = (
    embedded.l2_user_B,
    embedded.l2_item_I[triples.positive_B],
    embedded.l2_item_I[triples.negative_BxJ[:, 0]],
  )
  # 2 x half squares, summed over the batch, then the root.
  norms = sum((2 * s.sum()) ** 0.5 for s in squares)
  return total + settings.mmrec_weight * norms, {}


def test_loss_and_gradients_equal_the_oracle(agree, oracle, tiny_inputs):
  found = oracle("bprmf")
  weight = float(found["reg_weight"])

  def objective(embedded, inputs, triples, settings):
    settings.mmrec_weight = weight
    return norm_instead_of_square(embedded, inputs, triples, settings)

  part = lambda kind: {
    side: found[f"{kind}/{side}_embedding.weight"] for side in ("user", "item")
  }
  agree(
    MF(width=8), tiny_inputs(), part("param"), found["loss"], part("grad"),
    l2=0.0, objective=objective,
  )  # fmt: skip


def test_only_rows_of_the_batch_have_a_gradient(oracle, tiny_triples):
  gradient = oracle("bprmf")["grad/user_embedding.weight"]
  outside = np.setdiff1d(np.arange(7), tiny_triples.user_B)
  assert (gradient[outside] == 0).all()


def test_the_softmax_loss_is_cross_entropy_and_with_one_negative_bprs(rng):
  u, i = rng.normal(size=(2, 7, 3)).astype("f4")
  j = rng.normal(size=(7, 5, 3)).astype("f4")
  logits = np.concatenate(
    [(u * i).sum(-1)[:, None], np.einsum("bd,bjd->bj", u, j)], axis=1
  )
  share = np.exp(logits[:, 0]) / np.exp(logits).sum(axis=1)
  np.testing.assert_allclose(cf.softmax_loss(u, i, j), -np.log(share), 1e-5)
  np.testing.assert_allclose(
    cf.softmax_loss(u, i, j[:, :1]), cf.bpr_loss(u, i, j[:, 0]), 1e-5
  )
