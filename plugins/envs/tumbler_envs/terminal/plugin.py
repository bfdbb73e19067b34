"""Registers the environment `terminal`."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import EnvironmentSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.environment import Environment


def _load() -> "type[Environment]":
    from tumbler_envs.terminal.environment import TerminalEnvironment

    return TerminalEnvironment


def _config() -> "type[Settings]":
    from tumbler_envs.terminal.settings import TerminalSettings

    return TerminalSettings


@hookimpl
def tumbler_environments() -> list[EnvironmentSpec]:
    """Provide the environment `terminal`."""
    return [
        EnvironmentSpec(
            name="terminal",
            summary="Do tasks in a terminal, from folders in Harbor's format or from a seed; hidden tests judge them.",
            load=_load,
            config=_config,
            needs=("sandbox",),
        )
    ]
