"""Serve the policy with vLLM, in processes and a Python environment of its own."""
