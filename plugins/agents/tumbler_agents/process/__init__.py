"""Agents that are programs: run unmodified in the episode's sandbox, against the run's model gateway."""
