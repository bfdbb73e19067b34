"""The settings of the process backend."""

from pathlib import Path

from pydantic import Field

from tumbler.config import Settings

__all__ = ["ProcessSettings"]


class ProcessSettings(Settings):
    """Where the folders lie, and the consent without which the backend does not start."""

    i_know_this_is_not_isolated: bool = False
    """Must be true: commands run as this user, read and change all that this user can, and reach every network."""
    root: Path | None = None
    """The folder that holds all owners' sandboxes; None is `tumbler-<uid>/processes` under the system's temporary
    folder."""
    grace: float = Field(default=1.0, ge=0)
    """Seconds between SIGTERM and SIGKILL when a command passes its time-out or is killed."""
