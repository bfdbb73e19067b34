"""TOPR: tapered off-policy REINFORCE (arXiv 2503.14286)."""
