"""Compute backends, model sources and observers that come with Tumbler."""
