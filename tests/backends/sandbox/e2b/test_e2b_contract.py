from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import SecretStr

from tumbler.contracts.sandbox import SandboxBackend
from tumbler.testing.sandbox_complete_suite import CompleteSandboxSuite
from tumbler_backends.sandbox.e2b.backend import E2bBackend
from tumbler_backends.sandbox.e2b.settings import E2bSettings


class TestE2bContract(CompleteSandboxSuite):
    """Backend, real SDK, real wire, front end, bubblewrap: the whole way."""

    address: ClassVar[str]
    key: ClassVar[str]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def server(cls, front_end):
        cls.address, cls.key = front_end.url, front_end.key

    def make_backend(self, folder: Path) -> SandboxBackend:
        return E2bBackend(
            E2bSettings(
                api_key=SecretStr(self.key),
                api_url=self.address,
                sandbox_url=self.address,
                tier="namespace",
                shared_processes=False,
                grace=0.2,
            )
        )
