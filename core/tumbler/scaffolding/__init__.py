"""Writes new plugin distributions from templates."""
