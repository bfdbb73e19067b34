from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from tumbler.contracts.sandbox import SandboxBackend
from tumbler.testing.sandbox_complete_suite import CompleteSandboxSuite
from tumbler_backends.sandbox.docker.backend import DockerBackend
from tumbler_backends.sandbox.docker.settings import DockerSettings


class TestDockerContract(CompleteSandboxSuite):
    engine: ClassVar[str]
    image: ClassVar[str]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def engine_and_image(cls, docker_engine: str, docker_image: str) -> Iterator[None]:
        cls.engine, cls.image = docker_engine, docker_image
        yield

    def make_backend(self, folder: Path) -> SandboxBackend:
        return DockerBackend(
            DockerSettings(
                host=self.engine, image=self.image, root=folder / "docker", grace=0.2, memory_bytes=512 << 20
            )
        )

    def leftovers(self, folder: Path) -> Sequence[object]:
        return list((folder / "docker").iterdir())
