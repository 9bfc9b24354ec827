import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgrec_jax.nn import attention, transformer
from mmgrec_jax.nn.attention import RelationAttention, SelfAttention

pytestmark = pytest.mark.usefixtures("optimised")

B, N, D, H, W = 3, 5, 8, 2, 6


BOTH_FORMS = pytest.mark.parametrize("folded", [False, True])


def setup(rng, folded=False):
  model = RelationAttention(heads=H, head_width=W, folded=folded)
  e = jnp.asarray(rng.normal(size=(B, N, D)), jnp.float32)
  h_user = jnp.asarray(rng.normal(size=(B, D)), jnp.float32)
  mask = jnp.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], bool)
  params = model.init(jax.random.key(0), e, h_user, mask)["params"]
  return model, params, e, h_user, mask


def mlp(p, h_u):
  first, second = p["Dense_0"], p["Dense_1"]
  hidden = np.maximum(h_u @ first["kernel"] + first["bias"], 0)
  return (hidden @ second["kernel"] + second["bias"])[0]


def by_the_equations(params, e, h_user, mask):
  """Eq. 14-19 in plain loops, one user, one head, one item at a time."""
  p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
  out = np.zeros((B, N, D))
  for b in range(B):
    E = np.asarray(e[b], np.float64)
    # Eq. 18: W_u = MLP(h_u) U.
    W_uq, W_uk, W_uv = (
      mlp(p[f"s_{n}"], np.asarray(h_user[b])) * p[f"U_{n}"] for n in "qkv"
    )
    heads = []
    for head in range(H):
      W_q, W_k, W_v = (p["own"][f"W_{n}"][:, head] for n in "qkv")
      x = np.zeros((N, W))
      for i in range(N):
        seen = [j for j in range(N) if mask[b, j]]
        # Eq. 17, then 16, then 15 with eq. 14.
        epsilon = np.array(
          [
            ((E[i] @ W_q) @ (E[j] @ W_k) + (E[i] @ W_uq) @ (E[j] @ W_uk))
            / np.sqrt(W)
            for j in seen
          ]
        )
        alpha = np.exp(epsilon) / np.exp(epsilon).sum()
        for a, j in zip(alpha, seen, strict=True):
          x[i] += a * (E[j] @ W_v + E[j] @ W_uv)
      heads.append(x)
    out[b] = np.einsum("nhw,hwd->nd", np.stack(heads, axis=1), p["own"]["W_o"])
  return out


@BOTH_FORMS
def test_relation_attention_equals_equations_14_to_19(rng, folded):
  model, params, e, h_user, mask = setup(rng, folded)
  out = model.apply({"params": params}, e, h_user, mask)
  expected = by_the_equations(params, e, h_user, np.asarray(mask))
  np.testing.assert_allclose(out, expected, atol=1e-5)


def test_the_user_changes_the_relation(rng):
  model, params, e, h_user, mask = setup(rng)
  out = model.apply({"params": params}, e, h_user, mask)
  other = model.apply({"params": params}, e, -2 * h_user, mask)
  assert np.abs(out - other).max() > 1e-3


@BOTH_FORMS
def test_zero_U_is_plain_attention(rng, folded):
  model, params, e, h_user, mask = setup(rng, folded)
  zero = {
    name: jax.tree.map(jnp.zeros_like, p) if name.startswith("U_") else p
    for name, p in params.items()
  }
  plain = {"own": params["own"]}
  np.testing.assert_allclose(
    model.apply({"params": zero}, e, h_user, mask),
    SelfAttention(H, W, folded=folded).apply(
      {"params": plain}, e, h_user, mask
    ),
    atol=1e-6,
  )


@BOTH_FORMS
def test_padding_has_no_effect_and_no_gradient(rng, folded):
  model, params, e, h_user, mask = setup(rng, folded)

  def total(e):
    out = model.apply({"params": params}, e, h_user, mask)
    return (out * mask[..., None]).sum(), out

  gradient, out = jax.grad(total, has_aux=True)(e)
  padding = ~np.asarray(mask)
  assert (np.asarray(gradient)[padding] == 0).all()
  assert (np.abs(np.asarray(gradient)[~padding]) > 0).any(axis=-1).all()
  moved = jnp.where(mask[..., None], e, 99.0)
  again = total(moved)[1]
  np.testing.assert_array_equal(np.asarray(again)[~padding], out[~padding])


@BOTH_FORMS
def test_nothing_to_see_gives_zero_not_nan(rng, folded):
  model, params, e, h_user, _ = setup(rng, folded)
  nothing = jnp.zeros((B, N), bool)

  def total(e):
    return model.apply({"params": params}, e, h_user, nothing).sum()

  value, gradient = jax.value_and_grad(total)(e)
  assert value == 0 and (gradient == 0).all()


def test_attend_few_equals_attend(rng):
  for heads in (1, 4):
    q = jnp.asarray(rng.normal(size=(7, 1, 4, 12)), jnp.float32)
    k, v = jnp.asarray(rng.normal(size=(2, 7, 5, heads, 12)), jnp.float32)
    mask = jnp.arange(5) < 3
    np.testing.assert_allclose(
      attention.attend_few(q[:, 0], k, v, mask, 0.3),
      attention.attend(q, k, v, mask[None, None], 0.3)[:, 0],
      atol=1e-6,
    )


def test_keys_of_one_head_serve_all_heads(rng):
  q = jnp.asarray(rng.normal(size=(3, 5, 4, 6)), jnp.float32)
  k, v = jnp.asarray(rng.normal(size=(2, 3, 7, 1, 6)), jnp.float32)
  mask = jnp.asarray(rng.random((3, 5, 7)) < 0.7)
  np.testing.assert_allclose(
    attention.attend(q, k, v, mask, 0.3),
    attention.attend(q, *jnp.tile(jnp.stack([k, v]), (1, 1, 4, 1)), mask, 0.3),
    atol=1e-6,
  )


@pytest.mark.parametrize("head_width", [3, 8, 11])
@pytest.mark.parametrize("relation", [True, False])
def test_folded_and_plain_agree_in_values_and_gradients(
  rng, relation, head_width
):
  kind = RelationAttention if relation else SelfAttention
  plain, folded = (
    kind(heads=H, head_width=head_width, folded=f) for f in (False, True)
  )
  for trial in range(3):
    e = jnp.asarray(rng.normal(size=(B, N, D)), jnp.float32)
    h_user = jnp.asarray(rng.normal(size=(B, D)), jnp.float32)
    mask = jnp.asarray(rng.random((B, N)) < 0.6).at[0].set(trial > 0)
    weight = jnp.asarray(rng.normal(size=(B, N, D)), jnp.float32)
    params = plain.init(jax.random.key(trial), e, h_user, mask)

    def loss(params, e, h_user, model, mask=mask, weight=weight):
      out = model.apply(params, e, h_user, mask)
      return (out * weight).sum(), out

    by_form = [
      jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(params, e, h_user, m)
      for m in (plain, folded)
    ]
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), *by_form
    )


def test_sinusoidal_positions_by_hand():
  places = transformer.sinusoidal_positions(3, 4)
  np.testing.assert_allclose(places[0], [0, 1, 0, 1])
  np.testing.assert_allclose(
    places[2], [np.sin(2), np.cos(2), np.sin(0.02), np.cos(0.02)], rtol=1e-6
  )
