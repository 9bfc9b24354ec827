"""The figures that the paper prints, to set ours beside.

MMGRec: Multimodal Generative Recommendation with Transformer Model (Liu et
al.). All scores are on its own test splits, at K = 10; names are as it prints
them, ours are in tables.py.
"""

from typing import NamedTuple


class DataSet(NamedTuple):
  """A row of Table 1."""

  users: int
  items: int
  interactions: int
  modalities: dict[str, int]  # widths of features


class Score(NamedTuple):
  recall: float  # Recall@10
  ndcg: float  # NDCG@10


DATA_SETS = {
  "MovieLens": DataSet(
    55_485,
    5_986,
    1_239_508,
    {"visual": 2048, "acoustic": 128, "text": 100},
  ),
  "TikTok": DataSet(
    36_656,
    76_085,
    726_065,
    {"visual": 128, "acoustic": 128, "text": 128},
  ),
  "Kwai": DataSet(7_010, 86_483, 298_492, {"visual": 2048, "text": 128}),
}


def _of_data_sets(*scores: float) -> dict[str, Score]:
  """A printed row: Recall and NDCG of each data set in turn."""
  pairs = zip(scores[::2], scores[1::2], strict=True)
  return {
    name: Score(*pair) for name, pair in zip(DATA_SETS, pairs, strict=True)
  }


_OURS = _of_data_sets(0.2804, 0.1898, 0.1269, 0.0802, 0.0567, 0.0470)

# By table, method and data set.
TABLES = {
  2: {
    "GraphSAGE": _of_data_sets(0.2129, 0.1388, 0.0778, 0.0476, 0.0424, 0.0344),
    "NGCF": _of_data_sets(0.2340, 0.1383, 0.0906, 0.0547, 0.0427, 0.0363),
    "GAT": _of_data_sets(0.2342, 0.1589, 0.0945, 0.0575, 0.0441, 0.0369),
    "LightGCN": _of_data_sets(0.2381, 0.1592, 0.0988, 0.0603, 0.0502, 0.0411),
    "VBPR": _of_data_sets(0.1927, 0.1207, 0.0600, 0.0397, 0.0302, 0.0221),
    "MMGCN": _of_data_sets(0.2453, 0.1523, 0.0645, 0.0579, 0.0456, 0.0374),
    # On MovieLens, Table 4 prints these two figures for HK-Means as well.
    "GRCN": _of_data_sets(0.2520, 0.1683, 0.0952, 0.0584, 0.0473, 0.0403),
    "LATTICE": _of_data_sets(0.2520, 0.1680, 0.0984, 0.0611, 0.0483, 0.0400),
    "InvRL": _of_data_sets(0.2518, 0.1666, 0.1002, 0.0612, 0.0486, 0.0402),
    "LightGT": _of_data_sets(0.2650, 0.1771, 0.1213, 0.0751, 0.0546, 0.0441),
    "MMGRec": _OURS,
  },
  3: {
    "ID w/o": _of_data_sets(0.1934, 0.1238, 0.0811, 0.0516, 0.0417, 0.0361),
    "Emb w/o": _of_data_sets(0.2780, 0.1890, 0.1206, 0.0792, 0.0553, 0.0460),
    "Ours": _OURS,
  },
  4: {
    "HK-Means": _of_data_sets(0.2520, 0.1683, 0.1137, 0.0742, 0.0469, 0.0402),
    "Random": _of_data_sets(0.2762, 0.1872, 0.1199, 0.0785, 0.0544, 0.0452),
    "Ours": _OURS,
  },
  5: {
    "w/o PE": _of_data_sets(0.2696, 0.1850, 0.1152, 0.0765, 0.0517, 0.0427),
    "Default PE": _of_data_sets(0.2732, 0.1853, 0.1180, 0.0778, 0.0545, 0.0441),
    "Ours": _OURS,
  },
}

# Table 2's last lines: MMGRec over LightGT, in percent, and the p-value of a
# one-sample t-test whose number of runs is not printed.
IMPROVEMENT = _of_data_sets(5.81, 7.17, 4.62, 6.79, 3.85, 6.58)
P_VALUE = _of_data_sets(8.15e-4, 2.36e-4, 3.83e-2, 3.14e-3, 5.70e-3, 1.27e-2)
