"""Without the libraries of the extra `features`, nothing is collected."""

from importlib.util import find_spec

LIBRARIES = ("sentence_transformers", "timm", "torch", "torchvision")

if not all(map(find_spec, LIBRARIES)):
  collect_ignore_glob = ["test_*.py"]
