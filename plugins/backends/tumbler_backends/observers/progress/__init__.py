"""The progress display: stages, bars and key figures while a run is under way."""
