"""The contract of sandboxes with every ability, as tests for backends that offer `CompleteSandbox`.

Subclass `CompleteSandboxSuite` in a test module and override `make_backend`; `adapt` changes the tests' specs
where the backend needs it. What the backend's `capabilities` declare is tested, and what they do not declare must
be refused: no test is left out. The sandboxes need a POSIX shell, bash and coreutils, and Python where
`expose` is declared (or another `web_server`).
"""

import pytest

from tumbler.contracts.sandbox import SandboxBackend
from tumbler.contracts.sandbox_control import CompleteSandbox, ManagedBackend
from tumbler.testing.sandbox_control import FindTests
from tumbler.testing.sandbox_copies import CopyTests
from tumbler.testing.sandbox_defects import DefectTests
from tumbler.testing.sandbox_faults import FaultTests
from tumbler.testing.sandbox_fixtures import Boxes
from tumbler.testing.sandbox_interactive import InteractiveTests
from tumbler.testing.sandbox_life import LifeTests, StartTests
from tumbler.testing.sandbox_network import NetworkTests
from tumbler.testing.sandbox_spawn import SpawnTests
from tumbler.testing.sandbox_steering import SteeringTests
from tumbler.testing.sandbox_streams import StreamTests, WatchTests
from tumbler.testing.sandbox_suite import SandboxSuite
from tumbler.testing.sandbox_traps import TrapTests
from tumbler.testing.sandbox_tree import TreeTests

__all__ = ["CompleteSandboxSuite"]


@pytest.mark.asyncio(loop_scope="class")
class CompleteSandboxSuite(
    SpawnTests,
    SteeringTests,
    InteractiveTests,
    TreeTests,
    StreamTests,
    WatchTests,
    TrapTests,
    FindTests,
    StartTests,
    LifeTests,
    CopyTests,
    NetworkTests,
    DefectTests,
    FaultTests,
    SandboxSuite,
):
    """Subclass it and override `make_backend`; everything else comes with it."""

    async def test_objects_keep_the_complete_protocols(self, backend: SandboxBackend, boxes: Boxes) -> None:
        """Members are all there."""
        assert isinstance(backend, ManagedBackend)
        assert isinstance(await boxes(), CompleteSandbox)
