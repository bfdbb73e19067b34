"""Agent scaffolds and context strategies, each a plugin of its own."""
