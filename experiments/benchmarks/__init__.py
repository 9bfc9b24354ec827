"""Speed, side by side with PyTorch: `python -m experiments.benchmarks.NAME`."""
