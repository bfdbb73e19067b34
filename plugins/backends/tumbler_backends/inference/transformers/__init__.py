"""Serve any Hugging Face causal language model in this process, its requests batched token by token."""
