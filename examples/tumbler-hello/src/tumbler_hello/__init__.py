"""A small plugin for Tumbler that is worth copying."""
