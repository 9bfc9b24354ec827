"""Without PyTorch there is nothing to compare with: nothing is collected."""

try:
  # Not `import torch` alone: this folder could pass for a package of that name.
  import torch.nn  # noqa: F401
except ModuleNotFoundError:
  collect_ignore_glob = ["test_*.py"]
