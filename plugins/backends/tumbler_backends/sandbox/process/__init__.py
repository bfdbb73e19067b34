"""Sandboxes that are plain processes in a private folder: for machines without isolation, by explicit choice."""
