"""GSPO: group sequence policy optimisation (arXiv 2507.18071)."""
