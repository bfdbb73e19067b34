"""The environment `terminal`: tasks done in a shell and judged by hidden tests, from folders or from a seed."""
