"""IPA: chunk-level policy optimisation with initialised resampling (arXiv 2512.24873, 3.2.4)."""
