"""A coding agent with sub-agents, memory, plans, hooks and workflows: one loop for training and for people."""
