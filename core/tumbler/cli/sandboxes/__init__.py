"""The parts of `tumbler sandbox`, one module for each group of commands."""
