"""Rollouts on this machine: in this process, concurrent in asyncio, or in worker processes of its own."""
