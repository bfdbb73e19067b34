"""The pytest plugin for plugin authors: imports nothing of Tumbler until a fixture is used."""
