from collections.abc import Iterator
from pathlib import Path

import pytest

from tumbler.contracts.sandbox import SandboxBackend
from tumbler.testing.sandbox_suite import SandboxSuite
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings


class TestBubblewrapContract(SandboxSuite):
    def make_backend(self, folder: Path) -> SandboxBackend:
        return BubblewrapBackend(BubblewrapSettings(root=folder / "sandboxes", grace=0.2))

    @pytest.fixture(autouse=True)
    def nothing_is_left(self, tmp_path: Path) -> Iterator[None]:
        yield
        assert not list((tmp_path / "sandboxes").iterdir())
