"""Rollouts, engines and the trainer as actors of a Ray cluster."""
