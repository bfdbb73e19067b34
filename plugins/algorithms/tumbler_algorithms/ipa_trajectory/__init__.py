"""Trajectory-level IPA: the baseline of arXiv 2512.24873 (Eq. 4-6), for comparison."""
