"""A local server of Modal's wire protocol, for tests: the real client drives it, and it really executes."""
