"""Settings of the execution backend `local`."""

from pydantic import Field, NonNegativeInt, PositiveInt

from tumbler.config import Settings

__all__ = ["LocalSettings"]


class LocalSettings(Settings):
    """How many rollouts run at a time, and where."""

    capacity: PositiveInt = 64
    """Rollouts in flight at most, in all workers together; each holds a sandbox, if its environment needs one."""
    workers: NonNegativeInt = 0
    """Processes that run episodes. With 0 they run in the process of the run itself, which is enough while
    environments, agents and context strategies need less than one processor core together."""
    restarts: NonNegativeInt = 10
    """How many workers that die are replaced, in all; each starts again what the dead one had not finished."""
    start_timeout: float = Field(default=300.0, gt=0)
    """Seconds until a worker must be ready: plugins loaded, sandboxes and gateway started, the agent prepared."""
