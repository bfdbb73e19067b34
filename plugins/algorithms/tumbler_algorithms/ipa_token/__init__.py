"""Token-level IPA: the objective of arXiv 2512.24873 with tokens in place of chunks, for comparison."""
