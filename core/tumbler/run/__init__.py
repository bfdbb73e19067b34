"""A run: its stages in order, its folder, its results, and how it goes on after a crash."""
