"""mini-SWE-agent: a short loop around a shell, from PyPI."""
