"""REINFORCE, with the baselines and whitening of RLOO (arXiv 2402.14740) and REINFORCE++ (arXiv 2501.03262)."""
