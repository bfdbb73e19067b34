"""A way out of a sandbox without a network: to one address, and to nothing else."""
