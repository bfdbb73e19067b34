"""Errors cross processes as what they are."""

import asyncio
import pickle
from pathlib import Path

import pytest
from tests.backends.execution.recipes import Foreign, ForeignInference

from tumbler import errors
from tumbler.errors import ExecTimeout, InferenceError, RegistryError, SandboxDied, SessionEnded, TumblerError
from tumbler.run.command import Interrupted
from tumbler_backends.execution.failures import packed_error, unpacked_error


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name != "TumblerError"])
def test_every_error_of_the_tree_arrives_as_itself(name: str) -> None:
    error = getattr(errors, name)("what happened")
    arrived = unpacked_error(packed_error(error, "worker 3"))
    assert type(arrived) is type(error)
    assert str(arrived) == "what happened"


@pytest.mark.parametrize(
    ("error", "field"),
    [
        (SandboxDied("gone", cause="oom"), "cause"),
        (SessionEnded("over", exit_status=3), "exit_status"),
        (ExecTimeout("late", partial=None), "partial"),
        (RegistryError("bad", problems=()), "problems"),
        (Interrupted(Path("runs/one"), 15), "number"),
        (FileNotFoundError(2, "No such file", "x"), "filename"),
    ],
)
def test_what_an_error_carries_arrives_too(error: BaseException, field: str) -> None:
    arrived = unpacked_error(packed_error(error, "worker 3"))
    assert getattr(arrived, field) == getattr(error, field)


def test_a_note_says_where_it_was_raised() -> None:
    with pytest.raises(InferenceError) as caught:
        raise InferenceError("out of memory")
    arrived = unpacked_error(packed_error(caught.value, "worker 3"))
    assert arrived.__notes__[0].startswith("raised in worker 3:\nTraceback")
    assert "test_failures.py" in arrived.__notes__[0]


def test_an_error_that_cannot_be_pickled_becomes_the_nearest_of_the_tree() -> None:
    arrived = unpacked_error(packed_error(ForeignInference("out of", " luck"), "worker 3"))
    assert type(arrived) is InferenceError
    assert isinstance(arrived, TumblerError) and arrived.infra
    assert str(arrived) == "ForeignInference: out of luck"
    other = unpacked_error(packed_error(Foreign("one", "two"), "worker 3"))
    assert (type(other), str(other)) == (RuntimeError, "Foreign: onetwo")


def test_a_class_that_is_not_known_here_is_told_of() -> None:
    packed = packed_error(InferenceError("x"), "worker 3").replace(b"InferenceError", b"InferenceErrar")
    assert "cannot be read here" in str(unpacked_error(packed))
    assert "raised 3" in str(unpacked_error(pickle.dumps(3)))


def test_a_cancellation_stays_one() -> None:
    assert isinstance(unpacked_error(packed_error(asyncio.CancelledError(), "worker 3")), asyncio.CancelledError)
