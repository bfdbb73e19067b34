"""Calls both ways over one connection, any number at once, that can be cancelled; knows nothing of what is called.

What arrives is unpickled, so both ends must belong to one user and nobody else may reach the connection.
"""

import asyncio
import itertools
import pickle
import struct
from collections.abc import Awaitable, Callable, Mapping
from enum import IntEnum
from typing import Any, TypeAlias

from tumbler_backends.execution.failures import packed_error, unpacked_error

__all__ = ["Handler", "Peer", "PeerGone"]

Handler: TypeAlias = Callable[..., Awaitable[object]]

_HEADER = struct.Struct("!BQQ")
"""Kind of message, number of the call, bytes that follow."""
_CLEAN_UP_S = 60.0
"""How long a call that is cancelled may take to come back."""


class PeerGone(ConnectionError):
    """The other end is gone; whether it did what it was asked to, nobody knows."""


class _Kind(IntEnum):
    CALL = 0
    CANCEL = 1
    RESULT = 2
    ERROR = 3


class Peer:
    """One end of the connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        handlers: Mapping[str, Handler],
        *,
        name: str,
    ) -> None:
        """Answer calls with `handlers` for as long as `serve` runs; errors name this end `name`."""
        self._reader = reader
        self._writer = writer
        self._handlers = handlers
        self._name = name
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._working: dict[int, asyncio.Task[None]] = {}
        self._gone = False

    async def call(self, method: str, *arguments: object) -> Any:  # noqa: ANN401  # as the other end's handler returns
        """Return what the other end's handler returns, or raise what it raises.

        Cancelling the call cancels the handler and waits for its clean-up. Raises `PeerGone` where the
        connection ends first.
        """
        payload = pickle.dumps((method, arguments), protocol=pickle.HIGHEST_PROTOCOL)
        if self._gone:
            raise PeerGone(f"{method}: the connection has ended")
        number = next(self._numbers)
        answer = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._send(_Kind.CALL, number, payload)
        try:
            await asyncio.wait([answer])
        except asyncio.CancelledError:
            self._send(_Kind.CANCEL, number)
            await asyncio.wait([answer], timeout=_CLEAN_UP_S)
            raise
        finally:
            self._waiting.pop(number, None)
            if answer.done():
                answer.exception()  # taken note of, also where nobody waits any more
        return answer.result()

    async def serve(self) -> None:
        """Read until the connection ends; then fail the calls that wait, and cancel those that are answered."""
        try:
            while True:
                kind, number, size = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
                self._take(_Kind(kind), number, await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._gone = True
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(PeerGone("the connection has ended"))
            working = list(self._working.values())
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)

    def close(self) -> None:
        """End the connection; `serve` ends with it."""
        self._writer.close()

    def _take(self, kind: _Kind, number: int, payload: bytes) -> None:
        if kind is _Kind.CALL:
            task = asyncio.ensure_future(self._answer(number, payload))
            self._working[number] = task
            task.add_done_callback(lambda _: self._working.pop(number, None))
        elif kind is _Kind.CANCEL:
            if number in self._working:
                self._working[number].cancel()
        elif (answer := self._waiting.get(number)) is not None and not answer.done():
            _settle(answer, kind, payload)

    async def _answer(self, number: int, payload: bytes) -> None:
        try:
            method, arguments = pickle.loads(payload)
            result = await self._handlers[method](*arguments)
            kind, answer = _Kind.RESULT, pickle.dumps(result, protocol=pickle.HIGHEST_PROTOCOL)
        except BaseException as error:  # noqa: BLE001  # whatever the handler raises is the caller's to see
            kind, answer = _Kind.ERROR, packed_error(error, self._name)
        self._send(kind, number, answer)

    def _send(self, kind: _Kind, number: int, payload: bytes = b"") -> None:
        if not self._gone:
            self._writer.write(_HEADER.pack(kind, number, len(payload)) + payload)


def _settle(answer: "asyncio.Future[Any]", kind: _Kind, payload: bytes) -> None:
    try:
        if kind is _Kind.RESULT:
            answer.set_result(pickle.loads(payload))
            return
        error = unpacked_error(payload)
    except Exception as problem:  # noqa: BLE001  # the classes that come are whatever a plugin returned
        error = RuntimeError(f"an answer came that cannot be read here: {type(problem).__name__}: {problem}")
    if isinstance(error, asyncio.CancelledError):
        answer.cancel()
    else:
        answer.set_exception(error)
