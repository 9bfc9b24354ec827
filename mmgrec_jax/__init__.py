"""Generative multimodal recommendation in JAX."""


def __getattr__(name: str):
  # JAX is imported late: the commands first set what it reads when it starts.
  if name == "Dataset":
    from mmgrec_jax.data.dataset import Dataset

    return Dataset
  if name == "Recommender":
    from mmgrec_jax.serving.recommender import Recommender

    return Recommender
  raise AttributeError(f"module 'mmgrec_jax' has no attribute {name!r}")
