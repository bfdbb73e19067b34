"""Calls of actors that are bounded, can be cancelled, and raise what was raised there; knows no actor."""

import asyncio
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import ray
from ray.exceptions import GetTimeoutError, ObjectLostError, RayActorError, RayError

from tumbler.errors import RunError
from tumbler_backends.execution.failures import packed_error, unpacked_error

if TYPE_CHECKING:
    from ray.actor import ActorHandle

__all__ = ["ActorLost", "Answer", "Calls", "NoAnswer", "answered", "ask", "ask_cancellable", "ask_now"]

_CLEAN_UP_S = 60.0
"""How long a call that is cancelled may take to come back."""


class ActorLost(RunError):
    """An actor is gone, for good or until it is started again; what it was doing is lost."""


class NoAnswer(RunError):
    """An actor has not answered in time; what it raises itself, a TimeoutError too, arrives as what it was."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What every method of an actor returns. Ray would wrap an error in one of its own."""

    value: Any = None
    error: bytes | None = None

    def result(self) -> Any:  # noqa: ANN401  # as the method returns
        """Return the value, or raise the error as what it was."""
        if self.error is not None:
            raise unpacked_error(self.error)
        return self.value


async def answered(work: Awaitable[object]) -> Answer:
    """Await the work of an actor's method and return what came of it."""
    try:
        return Answer(value=await work)
    except BaseException as error:  # noqa: BLE001  # whatever the component raises is the caller's to see
        context = ray.get_runtime_context()
        return Answer(error=packed_error(error, f"actor {context.get_actor_id()} on node {context.get_node_id()}"))


class Calls:
    """The calls that an actor is answering and that may be cancelled, by the names that the callers gave them."""

    def __init__(self) -> None:
        """Answer nothing yet."""
        self._tasks: dict[str, asyncio.Task[Answer]] = {}

    async def run(self, call: str, work: Coroutine[object, object, object]) -> Answer:
        """Do the work under that name."""
        task = asyncio.ensure_future(answered(work))
        self._tasks[call] = task
        try:
            return await task
        finally:
            del self._tasks[call]

    def cancel(self, call: str) -> None:
        """Cancel the call, if it is not over."""
        if call in self._tasks:
            self._tasks[call].cancel()


async def ask(reference: "ray.ObjectRef[Any]", seconds: float | None, what: str) -> Any:  # noqa: ANN401
    """Return the value of an actor's answer; raise `ActorLost`, or `NoAnswer` after `seconds`.

    None waits for as long as the actor lives, for what has a bound of its own.
    """
    future = _future(reference)
    await asyncio.wait([future], timeout=seconds)
    if not future.done():
        raise NoAnswer(f"{what} took longer than {seconds:g} s")
    return _value(future, what)


async def ask_cancellable(
    actor: "ActorHandle[Any]", method: str, *arguments: object, seconds: float | None, what: str
) -> Any:  # noqa: ANN401  # as the method returns
    """Call a method whose first argument is the call's name; cancelling it cancels it there, and waits for that."""
    call = uuid4().hex
    future = _future(getattr(actor, method).remote(call, *arguments))
    try:
        await asyncio.wait([future], timeout=seconds)
        if not future.done():
            raise NoAnswer(f"{what} took longer than {seconds:g} s")
    except (asyncio.CancelledError, NoAnswer):
        actor.cancel.remote(call)
        await asyncio.wait([future], timeout=_CLEAN_UP_S)
        raise
    return _value(future, what)


def ask_now(reference: "ray.ObjectRef[Any]", seconds: float, what: str) -> Any:  # noqa: ANN401
    """Return the value of an actor's answer as `ask` does, and block the thread until then."""
    try:
        answer = ray.get(reference, timeout=seconds)
    except GetTimeoutError as error:
        raise NoAnswer(f"{what} took longer than {seconds:g} s") from error
    except RayError as error:
        raise _translated(error, what) from error
    return answer.result()


def _future(reference: "ray.ObjectRef[Any]") -> "asyncio.Future[Any]":
    future = asyncio.wrap_future(reference.future())
    future.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    return future


def _value(future: "asyncio.Future[Any]", what: str) -> Any:  # noqa: ANN401
    try:
        answer: Answer = future.result()
    except RayError as error:
        raise _translated(error, what) from error
    return answer.result()


def _translated(error: RayError, what: str) -> RunError:
    if isinstance(error, RayActorError | ObjectLostError):
        return ActorLost(f"{what}: {str(error).strip()}")
    return RunError(f"{what} failed in Ray: {type(error).__name__}: {error}")
