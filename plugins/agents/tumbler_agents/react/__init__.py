"""A reason-and-act loop over a compact text protocol."""
