"""The pytest plugin for plugin authors: imports nothing of Tumbler until a fixture is used."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tumbler.plugins import PluginHost

__all__ = ["registry_file", "tumbler_host"]

# Not marked by pytest itself in an editable installation; without it a failed assertion shows no values.
pytest.register_assert_rewrite(
    "tumbler.testing.agent_suite",
    "tumbler.testing.algorithm_suite",
    "tumbler.testing.context_suite",
    "tumbler.testing.environment_suite",
    "tumbler.testing.execution_suite",
    "tumbler.testing.inference_suite",
    "tumbler.testing.model_suite",
    "tumbler.testing.sandbox_complete_suite",
    "tumbler.testing.sandbox_control",
    "tumbler.testing.sandbox_copies",
    "tumbler.testing.sandbox_defects",
    "tumbler.testing.sandbox_exec",
    "tumbler.testing.sandbox_faults",
    "tumbler.testing.sandbox_files",
    "tumbler.testing.sandbox_fixtures",
    "tumbler.testing.sandbox_interactive",
    "tumbler.testing.sandbox_life",
    "tumbler.testing.sandbox_network",
    "tumbler.testing.sandbox_sessions",
    "tumbler.testing.sandbox_spawn",
    "tumbler.testing.sandbox_steering",
    "tumbler.testing.sandbox_streams",
    "tumbler.testing.sandbox_suite",
    "tumbler.testing.sandbox_traps",
    "tumbler.testing.sandbox_tree",
    "tumbler.testing.training_suite",
)


@pytest.fixture
def tumbler_host() -> "Callable[..., PluginHost]":
    """Return a function from plugin names to a host with those and the first-party plugins, and no others.

    What else is installed on the machine changes nothing: `host = tumbler_host("maze")`.
    """

    def load(*plugins: str) -> "PluginHost":
        from tumbler.testing.isolation import isolated_host

        return isolated_host(plugins)

    return load


@pytest.fixture
def registry_file(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes its text into a `registry.toml` of the test's own and returns the path."""

    def write(text: str) -> Path:
        path = tmp_path / "registry.toml"
        path.write_text(dedent(text), encoding="utf-8")
        return path

    return write
