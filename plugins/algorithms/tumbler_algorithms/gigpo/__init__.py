"""GiGPO: group-in-group policy optimisation (arXiv 2505.10978)."""
