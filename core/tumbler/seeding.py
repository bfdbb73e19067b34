"""Seeds derived from names: the same path always gives the same seed, on every machine."""

import hashlib

__all__ = ["derive_seed"]


def derive_seed(*path: str | int) -> int:
    """Return a seed in [0, 2**62) for the path, such as (run seed, stage, step, group, member)."""
    text = "\x1f".join(str(part) for part in path)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 2
