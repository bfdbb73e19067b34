"""CISPO: clipped importance-weight policy optimisation (arXiv 2506.13585, 3.1)."""
