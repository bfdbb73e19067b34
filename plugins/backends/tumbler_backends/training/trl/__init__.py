"""The `trl` training backend: TRL's own trainers on Tumbler's trajectories."""
