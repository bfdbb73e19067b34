"""TIS: policy gradient with truncated importance weights (arXiv 1802.01561, 4.1)."""
