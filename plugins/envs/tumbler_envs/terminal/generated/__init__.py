"""Tasks that are drawn from a seed: small edits of files."""
