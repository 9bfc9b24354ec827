"""The health of Rec-IDs: are they worth training a generator on?"""

import numpy as np

from mmgrec_jax.errors import UserError

# Items that share their tokens, at most: the last token has as many words, and
# a beam search scores all of them.
MOST_ALIKE = 20_000


def r_squared(x_IxD: np.ndarray, error_I: np.ndarray) -> float:
  """Share of x's variance that a reconstruction explains; 1 is perfect.

  Args:
    error_I: each row's squared distance to its reconstruction.
  """
  centred_IxD = x_IxD - x_IxD.mean(axis=0)
  total = np.square(centred_IxD, out=centred_IxD).sum()
  return float(1 - error_I.sum() / max(total, 1e-30))


def explained_by_groups(x_IxD: np.ndarray, semantic_IxS: np.ndarray) -> float:
  """R^2 of the mean of each group of equal semantic tokens, for HK-Means."""
  _, group = np.unique(semantic_IxS, axis=0, return_inverse=True)
  count = np.bincount(group)
  total = np.zeros((len(count), x_IxD.shape[1]))
  np.add.at(total, group, x_IxD)
  mean_IxD = (total / count[:, None])[group]
  return r_squared(x_IxD, ((x_IxD - mean_IxD) ** 2).sum(axis=1))


def health_report(
  semantic_IxS: np.ndarray, codebook_size: int, r2: float
) -> dict:
  """Usage, perplexity and collisions of semantic tokens.

  Returns:
    r2; per level: usage (share of the codewords that can be used, which is
    bounded by the number of items) and perplexity (of the codeword
    distribution); collision_rate (items that share all tokens with another);
    groups (distinct token tuples); largest_group.
  """
  items, levels = semantic_IxS.shape
  usage, perplexity = [], []
  for level in range(levels):
    count = np.bincount(semantic_IxS[:, level], minlength=codebook_size)
    p = count[count > 0] / items
    usage.append(float((count > 0).sum() / min(codebook_size, items)))
    perplexity.append(float(np.exp(-(p * np.log(p)).sum())))
  _, size = np.unique(semantic_IxS, axis=0, return_counts=True)
  return {
    "r2": r2,
    "usage": usage,
    "perplexity": perplexity,
    "collision_rate": float(size[size > 1].sum() / items),
    "groups": len(size),
    "largest_group": int(size.max()),
  }


def format_report(report: dict) -> str:
  """The report as a person reads it, a line a fact."""
  lines = [f"Rec-ID health: reconstruction R^2 {report['r2']:.3f}"]
  pairs = zip(report["usage"], report["perplexity"], strict=True)
  for level, (usage, perplexity) in enumerate(pairs, start=1):
    lines.append(
      f"  level {level}: {usage:6.1%} of codewords used, perplexity"
      f" {perplexity:.1f}"
    )
  lines.append(
    f"  {report['groups']} token triples, {report['collision_rate']:.1%} of"
    f" items share theirs, largest group {report['largest_group']}"
  )
  return "\n".join(lines)


def check_health(
  report: dict, min_r2: float, min_usage: float, method: str = "graph_rqvae"
) -> None:
  """Stops before the expensive stage.

  Args:
    method: `recid.method`. Of HK-Means usage says nothing: clusters of fewer
      items than it splits into leave the numbers of the next level unused.

  Raises:
    UserError: R^2 or a level's usage is below its floor, or more than
      `MOST_ALIKE` items have the same tokens.
  """
  trees = method == "hkmeans"
  others = ", or config.rqvae.latent, or train config.rqvae longer"
  way_out = (
    "; --config.recid.ignore_health=True goes on with these Rec-IDs anyway."
  )
  if report["r2"] < min_r2:
    raise UserError(
      f"Rec-IDs explain only {report['r2']:.2f} of the variance of the item"
      f" vectors (floor {min_r2}): raise config.rqvae.codebook_size"
      f"{'' if trees else others}{way_out}"
    )
  if report["largest_group"] > MOST_ALIKE:
    raise UserError(
      f"{report['largest_group']:,} items have the same tokens, so the last one"
      f" would need as many words (at most {MOST_ALIKE:,}): give items without"
      f" features some, or leave them out{way_out}"
    )
  worst = int(np.argmin(report["usage"]))
  if not trees and report["usage"][worst] < min_usage:
    raise UserError(
      f"Level {worst + 1} of the Rec-IDs uses only"
      f" {report['usage'][worst]:.0%} of its codewords (floor"
      f" {min_usage:.0%}): lower config.rqvae.codebook_size, or start from"
      f" config.rqvae.codebook_start='kmeans'{way_out}"
    )
