"""The inference backend `replay`: what a run's policy said is said again, without a model."""
