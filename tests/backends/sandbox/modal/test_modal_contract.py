from pathlib import Path

import pytest

from tumbler.contracts.sandbox import SandboxBackend
from tumbler.testing.sandbox_complete_suite import CompleteSandboxSuite
from tumbler_backends.sandbox.modal.backend import ModalBackend
from tumbler_backends.sandbox.modal.settings import ModalSettings


@pytest.mark.usefixtures("modal_service")
class TestModalContract(CompleteSandboxSuite):
    def make_backend(self, folder: Path) -> SandboxBackend:
        return ModalBackend(ModalSettings(tier="namespace", grace=0.2, pulse=0.5, ports=(8931,), encrypted_ports=False))
