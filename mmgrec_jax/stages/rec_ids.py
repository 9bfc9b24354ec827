"""Stage 3: Rec-IDs, and whether they are worth the next stage."""

from mmgrec_jax.config import Config
from mmgrec_jax.data.dataset import Dataset
from mmgrec_jax.files import is_made
from mmgrec_jax.recid import assign, hkmeans, quality
from mmgrec_jax.stages.vectors import read_vectors
from mmgrec_jax.workdir import Workdir


def make_rec_ids(
  config: Config, data: Dataset, folder: Workdir
) -> assign.RecIds:
  """Rec-IDs from embed/vectors.npz, written to recids.npz.

  Raises:
    UserError: the health report is below its floors (see quality.py).
  """
  path = folder.path / "recids.npz"
  if is_made(path):
    return assign.load_rec_ids(path, data.n_items)
  vectors = folder.path / "embed" / "vectors.npz"
  size = config.rqvae.codebook_size
  if config.recid.method == "hkmeans":  # into as many as there are codewords
    h_item = read_vectors(vectors, data, ["item"])["item"]
    semantic = hkmeans.hierarchical_kmeans(
      h_item, config.rqvae.levels, size, config.seed
    )
    r2 = quality.explained_by_groups(h_item, semantic)
  else:
    saved = read_vectors(vectors, data, ["codes", "r2"], L=size)
    semantic, r2 = saved["codes"], float(saved["r2"])
  report = quality.health_report(semantic, size, r2)
  print(quality.format_report(report))
  folder.write_json("recid_health.json", report)
  if not config.recid.ignore_health:
    floors = config.recid.min_r2, config.recid.min_usage
    quality.check_health(report, *floors, config.recid.method)
  rec_ids = assign.assign_rec_ids(
    semantic, size, data.popularity(), config.recid.last_token, config.seed
  )
  assign.save_rec_ids(rec_ids, path)
  return assign.load_rec_ids(path, data.n_items)
