"""Model sources: where the model folder that a run starts from comes from."""
