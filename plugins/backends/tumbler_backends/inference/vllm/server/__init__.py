"""The server: an engine behind HTTP. It runs in the engine's environment and imports nothing else of Tumbler."""
