"""Context strategies."""
