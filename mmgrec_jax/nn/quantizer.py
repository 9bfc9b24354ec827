"""Residual quantization (paper eq. 7-10) and the k-means it starts from."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Quantized(NamedTuple):
  """What a residual quantizer makes of latents [B, D] with M levels.

  codes_BxM: int32, nearest codeword of each level (eq. 7).
  residuals_MxBxD: what each level saw.
  codewords_MxBxD: the codeword each level chose.
  """

  codes_BxM: jax.Array
  residuals_MxBxD: jax.Array
  codewords_MxBxD: jax.Array

  @property
  def z_hat_BxD(self) -> jax.Array:
    """Sum of the chosen codewords (eq. 9)."""
    return self.codewords_MxBxD.sum(axis=0)


def nearest_codeword(x_BxD: jax.Array, codebook_LxD: jax.Array) -> jax.Array:
  """Index of the codeword with the smallest squared distance, int32 [B]."""
  x = x_BxD.astype(jnp.float32)
  book = codebook_LxD.astype(jnp.float32)
  product = jnp.matmul(x, book.T, precision=jax.lax.Precision.HIGHEST)
  # |x|^2 is the same for every codeword.
  distance = (book**2).sum(axis=1)[None] - 2 * product
  return distance.argmin(axis=1).astype(jnp.int32)


def residual_quantize(
  z_BxD: jax.Array, codebooks_MxLxD: jax.Array
) -> Quantized:
  """Eq. 7-8: each level quantizes what the levels before left over."""

  def level(residual_BxD, codebook_LxD):
    code_B = nearest_codeword(residual_BxD, codebook_LxD)
    codeword_BxD = codebook_LxD[code_B]
    return residual_BxD - codeword_BxD, (code_B, residual_BxD, codeword_BxD)

  _, (codes_MxB, residuals, codewords) = jax.lax.scan(
    level, z_BxD, codebooks_MxLxD
  )
  return Quantized(codes_MxB.T, residuals, codewords)


def straight_through(z_BxD: jax.Array, z_hat_BxD: jax.Array) -> jax.Array:
  """Value of z_hat, gradient of z (eq. 9)."""
  return z_BxD + jax.lax.stop_gradient(z_hat_BxD - z_BxD)


def commitment_loss(quantized: Quantized, beta: float) -> jax.Array:
  """Eq. 10's codebook terms of each row, over levels and width. [B]."""
  sg = jax.lax.stop_gradient
  r, b = quantized.residuals_MxBxD, quantized.codewords_MxBxD
  pull_codebook = ((sg(r) - b) ** 2).sum(axis=(0, 2))
  pull_encoder = ((r - sg(b)) ** 2).sum(axis=(0, 2))
  return pull_codebook + beta * pull_encoder


def kmeans(
  x_IxD: np.ndarray, k: int, seed: int, iterations: int = 50
) -> tuple[np.ndarray, np.ndarray]:
  """Lloyd's k-means from a k-means++ start.

  With fewer than k distinct rows every distinct row becomes a centre, and the
  centres left over are copies of rows moved by a little noise, so that each
  can still win items once the rows move.

  Returns:
    centres float32 [k, D] and the centre of each row, int32 [I].
  """
  rng = np.random.default_rng(seed)
  x = np.asarray(x_IxD, np.float32)
  distinct = np.unique(x, axis=0)
  if len(distinct) <= k:
    spare = distinct[rng.integers(len(distinct), size=k - len(distinct))]
    noise = 1e-3 * (x.std() + 1e-6) * rng.standard_normal(spare.shape)
    centres = np.concatenate([distinct, (spare + noise).astype(np.float32)])
    return centres, _nearest(x, centres)
  centres = _plus_plus(x, k, rng)
  code = _nearest(x, centres)
  for _ in range(iterations):
    count = np.bincount(code, minlength=k)
    total = np.zeros_like(centres)
    np.add.at(total, code, x)
    used = count > 0
    centres[used] = total[used] / count[used, None]
    # An empty cluster takes a row that is badly served now.
    far = np.argsort(-((x - centres[code]) ** 2).sum(axis=1), kind="stable")
    centres[~used] = x[far[: (~used).sum()]]
    before, code = code, _nearest(x, centres)
    if (before == code).all():
      break
  return centres, code


def _nearest(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
  size = (centres**2).sum(axis=1)
  chunks = [
    (size - 2 * x[start : start + 8192] @ centres.T).argmin(axis=1)
    for start in range(0, len(x), 8192)
  ]
  return np.concatenate(chunks).astype(np.int32)


def _plus_plus(x: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
  """k-means++: each next centre drawn by squared distance to the nearest."""
  centres = [x[rng.integers(len(x))]]
  distance = np.full(len(x), np.inf)
  for _ in range(k - 1):
    distance = np.minimum(distance, ((x - centres[-1]) ** 2).sum(axis=1))
    centres.append(x[rng.choice(len(x), p=distance / distance.sum())])
  return np.stack(centres)


def kmeans_codebooks(
  z_IxD: np.ndarray, levels: int, size: int, seed: int
) -> np.ndarray:
  """Codebooks from k-means of each level's residuals, float32 [M, L, D]."""
  residual = np.asarray(z_IxD, np.float32)
  books = []
  for level in range(levels):
    centres, code = kmeans(residual, size, seed + level)
    books.append(centres)
    residual = residual - centres[code]
  return np.stack(books)
