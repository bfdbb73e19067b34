"""Qwen Code: a coding agent for the terminal, from npm."""
