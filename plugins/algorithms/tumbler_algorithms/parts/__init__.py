"""What the algorithms share: plans, baselines, averages, corrections. No algorithm lives here."""
