"""Experiments beside the package: benchmarks. They import it, never reverse."""
