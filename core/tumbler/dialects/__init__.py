"""How tool calls, thinking and tool results stand in text; light enough for every path, and of no model."""

from tumbler.dialects.lookup import DIALECTS, dialect

__all__ = ["DIALECTS", "dialect"]
