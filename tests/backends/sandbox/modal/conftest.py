import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The test modules share helpers and the server's protocol tables; pytest's importlib mode finds neither.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def modal_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Serve Modal's protocol for one test module, and see that nothing is left."""
    from serving import modal_server

    folder = tmp_path_factory.mktemp("modal")
    with modal_server(folder):
        yield folder
    assert [*(folder / "agents").iterdir(), *(folder / "sandboxes").iterdir()] == []
