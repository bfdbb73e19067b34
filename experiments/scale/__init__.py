"""The scheduler at scale, on a simulated cluster."""
