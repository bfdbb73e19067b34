"""Judging what the agent left: its processes are ended, the tests laid out and run, and their reward read."""
