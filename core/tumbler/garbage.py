"""How often a process at long work looks for garbage. Knows no run."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["rare_collections"]

_THRESHOLDS = (20_000, 20, 20)
"""Python's own are made for small programs: episodes make some hundred thousand objects a second, nearly all of which
end without the collector, and it took a tenth of the processor's time."""


@contextmanager
def rare_collections() -> Iterator[None]:
    """Pass over all objects that are there now, and look at new ones less often, while the block runs."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
