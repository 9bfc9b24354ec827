"""MMGRec's generator in PyTorch, to be compared with ours side by side."""
