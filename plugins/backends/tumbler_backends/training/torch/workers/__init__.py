"""The processes in which trainers work together, and their owner's side."""
