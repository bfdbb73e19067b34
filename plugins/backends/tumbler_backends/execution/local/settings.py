"""Settings of the execution backend `local`."""

from pydantic import PositiveInt

from tumbler.config import Settings

__all__ = ["LocalSettings"]


class LocalSettings(Settings):
    """How many rollouts run at a time."""

    capacity: PositiveInt = 64
    """Rollouts in flight at most; each holds a sandbox, if its environment needs one."""
