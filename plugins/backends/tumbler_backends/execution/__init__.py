"""Execution backends: where rollouts run."""
