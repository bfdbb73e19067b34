"""Start the server as a plain file, in an environment in which Tumbler is not installed.

`python server/` takes what to serve as one JSON line on its standard input, and ends when that closes. With
`--model` it serves for whoever attaches to it.
"""

import sys
from pathlib import Path
from types import ModuleType

__all__: list[str] = []


def _make_importable() -> None:
    """Let this package be imported under its own name, without what lies beside it in another environment."""
    own = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != own]
    package = ModuleType("tumbler_backends")
    package.__path__ = [str(own.parents[2])]
    sys.modules.setdefault("tumbler_backends", package)


if __name__ == "__main__":
    _make_importable()

    from tumbler_backends.inference.vllm.server.main import main
    from tumbler_backends.inference.vllm.server.vllm_engine import VllmEngine

    main(VllmEngine)
