"""Rollouts in this process, concurrent in asyncio."""
