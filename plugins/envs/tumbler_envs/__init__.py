"""Environments: tasks, their observations, and how they are judged."""
