"""The twin: an imitation of the sandbox's shell, in this process, for the commands that a trail needs."""
