"""What the authors of published data sets say that is in them.

Copies differ: the items that nobody likes are left out, a split is another, a
download was cut. So what is read is compared.
"""

from typing import NamedTuple

from mmgrec_jax.data.dataset import TRAIN, Dataset


class Counts(NamedTuple):
  """interactions: all, or those of training where only these are told."""

  users: int
  items: int
  interactions: int
  of_training: bool = False


# By form and by the name of the folder, in small letters. mmgcn: Table 1 of the
# MMGRec paper; mmrec: the tables of papers on it, such as FREEDOM (Zhou and
# Shen 2023); mmssl: its authors' page.
COUNTS = {
  ("mmgcn", "movielens"): Counts(55_485, 5_986, 1_239_508),
  ("mmgcn", "tiktok"): Counts(36_656, 76_085, 726_065),
  ("mmgcn", "kwai"): Counts(7_010, 86_483, 298_492),
  ("mmrec", "baby"): Counts(19_445, 7_050, 160_792),
  ("mmrec", "sports"): Counts(35_598, 18_357, 296_337),
  ("mmrec", "clothing"): Counts(39_387, 23_033, 278_677),
  ("mmssl", "tiktok"): Counts(9_319, 6_710, 59_541, of_training=True),
}


def compare(form: str, folder_name: str, data: Dataset) -> str | None:
  """A line on how a data set differs from what was published; None where
  nothing is known of a folder of that name."""
  published = COUNTS.get((form, folder_name.lower()))
  if published is None:
    return None
  interactions = len(data.user_E)
  if published.of_training:
    interactions = int((data.split_E == TRAIN).sum())
  here = (data.n_users, data.n_items, interactions)
  what = "training interactions" if published.of_training else "interactions"
  differ = [
    f"{now:,} {name} here, {then:,} published"
    for now, then, name in zip(
      here, published[:3], ("users", "items", what), strict=True
    )
    if now != then
  ]
  if not differ:
    return f"{folder_name}: users, items and interactions as published"
  return f"{folder_name}: {'; '.join(differ)}"
