"""Item features: from raw content to arrays, and on one scale."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

# Long descriptions have millions of n-grams, most of them once.
MOST_GRAMS = 50_000
# Texts that say which n-grams there are: all n-grams of those are in memory.
MOST_TEXTS = 50_000


def text_features(texts: Sequence[str], dim: int, seed: int = 0) -> np.ndarray:
  """TF-IDF of character 2- to 4-grams, reduced by a truncated SVD.

  Of more than `MOST_TEXTS`, as many drawn at random say what is reduced to.

  Returns:
    float32 [len(texts), at most dim].
  """
  of_grams = TfidfVectorizer(
    analyzer="char_wb",
    ngram_range=(2, 4),
    sublinear_tf=True,
    max_features=MOST_GRAMS,
  )
  if len(texts) <= MOST_TEXTS:
    return _reduce(of_grams.fit_transform(texts), dim, seed)[0]
  rng = np.random.default_rng(seed)
  drawn = np.sort(rng.choice(len(texts), MOST_TEXTS, replace=False))
  grams = of_grams.fit_transform([texts[row] for row in drawn])
  _, svd = _reduce(grams, dim, seed)
  parts = [
    svd.transform(of_grams.transform(texts[start : start + MOST_TEXTS]))
    for start in range(0, len(texts), MOST_TEXTS)
  ]
  return np.concatenate(parts).astype(np.float32)


def bag_of_words(
  item_N: np.ndarray, word_N: np.ndarray, n_items: int, dim: int, seed: int = 0
) -> np.ndarray:
  """Which word occurs in which item how often, reduced by a truncated SVD.

  Returns:
    float32 [n_items, at most dim].
  """
  words, column_N = np.unique(word_N, return_inverse=True)
  counts = sparse.csr_matrix(
    (np.ones(len(item_N)), (item_N, column_N)), (n_items, len(words))
  )
  return _reduce(counts, dim, seed)[0]


def _reduce(
  matrix: Any, dim: int, seed: int
) -> tuple[np.ndarray, TruncatedSVD]:
  svd = TruncatedSVD(min(dim, min(matrix.shape) - 1), random_state=seed)
  # Where all rows are equal, none of the variance is explained: 0 / 0.
  with np.errstate(invalid="ignore"):
    return svd.fit_transform(matrix).astype(np.float32), svd


def multi_hot(texts: Sequence[str]) -> np.ndarray:
  """One column for each distinct space-separated word, float32 0 or 1."""
  words = CountVectorizer(token_pattern=r"[^ ]+", lowercase=False, binary=True)
  counts: Any = words.fit_transform(texts)
  return counts.toarray().astype(np.float32)


def present_rows(feature_IxD: np.ndarray) -> np.ndarray:
  """Which items have the modality: a row of zeros means that it is missing."""
  return np.any(feature_IxD != 0, axis=1)


def normalise_features(
  feature_IxD: np.ndarray, how: str, scale_of_I: np.ndarray | None = None
) -> np.ndarray:
  """Columns z-scored, then rows L2-normalised; 'none' leaves them alone.

  Raw scales differ by orders of magnitude between modalities and sink models
  that use them directly. A constant column becomes 0, not NaN. What is missing
  has no part in mean and deviation, and stays 0. Of one column L2 would leave
  signs alone: it gets ones beside it, so that close numbers are close vectors.

  Args:
    scale_of_I: bool, the items that mean and deviation are of; None: all.

  Returns:
    float32 [I, D]; [I, 2] of one column, unless as it is.
  """
  if how == "none":
    return feature_IxD.astype(np.float32)
  present_I = present_rows(feature_IxD)
  counted_P = np.full(present_I.sum(), True)
  if scale_of_I is not None:
    counted_P = scale_of_I[present_I]
  n_items, D = feature_IxD.shape
  width = 2 if D == 1 else D
  if not counted_P.any():
    return np.zeros((n_items, width), np.float32)
  out_PxD = np.ones((len(counted_P), width), np.float32)
  square_P = np.full(len(out_PxD), float(width - D))
  # A few columns at a time: float64 copies of all would be most of the memory
  # that a run takes.
  for start in range(0, D, 64):
    columns = slice(start, min(start + 64, D))
    x = feature_IxD[present_I, columns].astype(np.float64)
    x -= x[counted_P].mean(axis=0)
    deviation = x[counted_P].std(axis=0)
    x /= np.where(deviation > 1e-12, deviation, 1)
    square_P += (x**2).sum(axis=1)
    out_PxD[:, columns] = x
  out_PxD /= np.maximum(np.sqrt(square_P), 1e-12)[:, None].astype(np.float32)
  if present_I.all():
    return out_PxD
  out_IxD = np.zeros((n_items, width), np.float32)
  out_IxD[present_I] = out_PxD
  return out_IxD
