"""The metrics journal: one JSON line for each training step and each finished stage."""
