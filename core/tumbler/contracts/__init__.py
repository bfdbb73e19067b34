"""What plugins implement (Protocols) and what they hand over (frozen dataclasses)."""
