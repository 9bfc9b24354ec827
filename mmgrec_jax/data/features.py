"""Item features: from raw content to arrays, and on one scale."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer


def text_features(texts: Sequence[str], dim: int, seed: int = 0) -> np.ndarray:
  """TF-IDF of character 2- to 4-grams, reduced by a truncated SVD.

  Returns:
    float32 [len(texts), at most dim].
  """
  grams = TfidfVectorizer(
    analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True
  ).fit_transform(texts)
  dim = min(dim, min(grams.shape) - 1)
  svd = TruncatedSVD(dim, random_state=seed)
  return svd.fit_transform(grams).astype(np.float32)


def multi_hot(texts: Sequence[str]) -> np.ndarray:
  """One column for each distinct space-separated word, float32 0 or 1."""
  words = CountVectorizer(token_pattern=r"[^ ]+", lowercase=False, binary=True)
  counts: Any = words.fit_transform(texts)
  return counts.toarray().astype(np.float32)


def normalise_features(feature_IxD: np.ndarray, how: str) -> np.ndarray:
  """Columns z-scored, then rows L2-normalised; 'none' leaves them alone.

  Raw scales differ by orders of magnitude between modalities and sink models
  that use them directly. A constant column becomes 0, not NaN.
  """
  if how == "none":
    return feature_IxD.astype(np.float32)
  out_IxD = np.empty(feature_IxD.shape, np.float32)
  square_I = np.zeros(len(feature_IxD))
  # A few columns at a time: float64 copies of all would be most of the memory
  # that a run takes.
  for start in range(0, feature_IxD.shape[1], 64):
    columns = slice(start, start + 64)
    x = feature_IxD[:, columns].astype(np.float64)
    x -= x.mean(axis=0)
    deviation = x.std(axis=0)
    x /= np.where(deviation > 1e-12, deviation, 1)
    square_I += (x**2).sum(axis=1)
    out_IxD[:, columns] = x
  out_IxD /= np.maximum(np.sqrt(square_I), 1e-12)[:, None].astype(np.float32)
  return out_IxD
