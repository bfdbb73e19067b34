"""What a sandbox sees as its files, and the host's safe way to them."""
