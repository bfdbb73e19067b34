"""The `torch` training backend: optimizer steps on trajectories with PyTorch and Accelerate."""
