"""A place for runs that go wrong, and the same run undisturbed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.faults.records import outcome
from tests.integration.faults.runs import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What comes of the run of scripts without a fault."""
    site = Site(tmp_path_factory.mktemp("undisturbed"))
    site.start("script")
    site.finish()
    return outcome(site.run)
