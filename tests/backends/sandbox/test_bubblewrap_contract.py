from collections.abc import Sequence
from pathlib import Path

from tumbler.contracts.sandbox import SandboxBackend
from tumbler.testing import CompleteSandboxSuite
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings


class TestBubblewrapContract(CompleteSandboxSuite):
    def make_backend(self, folder: Path) -> SandboxBackend:
        return BubblewrapBackend(BubblewrapSettings(root=folder / "sandboxes", grace=0.2))

    def leftovers(self, folder: Path) -> Sequence[object]:
        return list((folder / "sandboxes").iterdir())
