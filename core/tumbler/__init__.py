"""Tumbler trains and runs LLM agents: a thin core, and everything else a plugin."""

from tumbler.markers import hookimpl

__all__ = ["__version__", "hookimpl"]

__version__ = "0.1.0"
