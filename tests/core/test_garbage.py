"""The collector looks less often while a process works for long, and as before afterwards."""

import gc
import weakref

import pytest

from tumbler.garbage import rare_collections


class Thing:
    """Something that can be part of a cycle."""


def test_the_collector_is_as_it_was_after_the_block_also_after_an_error() -> None:
    before = gc.get_threshold()
    with pytest.raises(ValueError, match="mine"), rare_collections():
        assert gc.get_threshold()[0] > before[0]
        raise ValueError("mine")
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_cycles_that_are_made_within_the_block_are_still_found() -> None:
    with rare_collections():
        thing = Thing()
        thing.itself = thing  # type: ignore[attr-defined]
        gone = weakref.ref(thing)
        del thing
        gc.collect()
        assert gone() is None
