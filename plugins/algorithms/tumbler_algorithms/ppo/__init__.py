"""PPO: proximal policy optimisation with a value head (arXiv 1707.06347)."""
