"""The gateway as a server of its own: for agents that are run by hand, and without a training run."""
