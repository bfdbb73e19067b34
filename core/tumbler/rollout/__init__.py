"""From rollout requests to verified trajectories: one episode, and many at once."""
