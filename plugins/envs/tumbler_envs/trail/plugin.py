"""Registers the environment `trail`."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import EnvironmentSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.environment import Environment


def _load() -> "type[Environment]":
    from tumbler_envs.trail.environment import TrailEnvironment

    return TrailEnvironment


def _config() -> "type[Settings]":
    from tumbler_envs.trail.settings import TrailSettings

    return TrailSettings


@hookimpl
def tumbler_environments() -> list[EnvironmentSpec]:
    """Provide the environment `trail`."""
    return [
        EnvironmentSpec(
            name="trail",
            summary="Follow a trail of files, archives and sums in a shell and write down where it ends.",
            load=_load,
            config=_config,
        )
    ]
