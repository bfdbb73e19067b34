"""The Docker sandbox backend: hardened containers on an engine, with commands started past it where it is local."""
