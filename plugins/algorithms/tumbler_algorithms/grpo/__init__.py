"""GRPO: group-relative policy optimisation (arXiv 2402.03300), with the switches of Dr. GRPO and DAPO."""
