"""The same contract where the engine is all there is: no shared files, no shared processes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from tumbler.contracts.sandbox import SandboxBackend, SandboxSpec
from tumbler.errors import CapabilityError
from tumbler.testing.sandbox_complete_suite import CompleteSandboxSuite
from tumbler_backends.sandbox.docker.backend import DockerBackend
from tumbler_backends.sandbox.docker.settings import DockerSettings


class TestDockerThroughTheEngineContract(CompleteSandboxSuite):
    engine: ClassVar[str]
    image: ClassVar[str]
    burst: ClassVar[int] = 20
    flood_bytes: ClassVar[int] = 1 << 26

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def engine_and_image(cls, docker_engine: str, docker_image: str) -> Iterator[None]:
        cls.engine, cls.image = docker_engine, docker_image
        yield

    def make_backend(self, folder: Path) -> SandboxBackend:
        return DockerBackend(
            DockerSettings(host=self.engine, image=self.image, root=folder / "docker", grace=0.2, past_the_engine=False)
        )

    def leftovers(self, folder: Path) -> Sequence[object]:
        return list((folder / "docker").iterdir())


async def test_a_user_whose_number_nobody_knows_is_refused(
    docker_engine: str, docker_image: str, tmp_path: Path
) -> None:
    backend = DockerBackend(
        DockerSettings(host=docker_engine, image=docker_image, root=tmp_path / "docker", past_the_engine=False)
    )
    await backend.start()
    with pytest.raises(CapabilityError, match="number"):
        await backend.create(SandboxSpec(user="nobody"))
    await backend.close()
