"""Components that can really be built."""

from collections.abc import Iterable
from pathlib import Path


class Cloud:
    """A sandbox backend that does nothing but keep its settings."""

    def __init__(self, settings):
        self.settings = settings

    @property
    def capabilities(self):
        raise AssertionError("not asked for")

    async def start(self):
        pass

    async def create(self, spec):
        raise AssertionError("not asked for")

    async def close(self):
        pass


class Folder:
    """A model source."""

    def __init__(self, settings):
        self.settings = settings

    def prepare(self, folder: Path, *, texts: Iterable[str], seed: int) -> Path:
        return folder
