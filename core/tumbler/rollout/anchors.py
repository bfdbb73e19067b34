"""Keeps prepared anchors for the rollouts that start in forks of them; knows neither policy nor scaffold."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

from tumbler.contracts.environment import Environment
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.sandbox import SandboxBackend
from tumbler.errors import CapabilityError, EpisodeTimeoutError, ReplayMismatchError
from tumbler.rollout.preparation import PreparedAnchor, prepare_anchor
from tumbler.rollout.sandboxes import carry_through
from tumbler.trajectory.record import Anchor

__all__ = ["PreparedAnchors"]

_LOG = logging.getLogger("tumbler.rollout")
_Key: TypeAlias = tuple[str, int, str, int]
"""Expert trajectory, chunk, environment and its seed."""


@dataclass(eq=False)
class _Entry:
    """One anchor: its preparation, under way or done, and how many rollouts hold on to it."""

    preparing: "asyncio.Task[PreparedAnchor | None]"
    """None comes of what cannot be forked."""
    holders: int = 0
    refused: bool = False
    """Whether a fork of it went wrong."""
    ending: bool = False
    """Whether its removal has begun."""

    @property
    def failed(self) -> bool:
        """Return whether the preparation ended without anything to go on from."""
        done = self.preparing.done()
        return done and (self.preparing.cancelled() or self.preparing.exception() is not None)

    @property
    def prepared(self) -> PreparedAnchor | None:
        """Return what came of the preparation, if anything."""
        return self.preparing.result() if self.preparing.done() and not self.failed else None


class PreparedAnchors:
    """The anchors used last. Rollouts that want the same one at the same time wait for one preparation."""

    def __init__(
        self,
        build: Callable[[str], Environment],
        sandboxes: SandboxBackend | None,
        *,
        limit: int,
        seconds: float,
        labels: Mapping[str, str],
    ) -> None:
        """Keep at most `limit` anchors that nobody holds; `build` returns an environment by its name.

        A preparation may take `seconds`; its sandbox gets `labels`.
        """
        self._build = build
        self._sandboxes = sandboxes
        self._limit = limit
        self._seconds = seconds
        self._labels = labels
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self._reported: set[str] = set()
        self._removals: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def hold(self, request: RolloutRequest) -> AsyncIterator[PreparedAnchor | None]:
        """Lend the anchor of the request, prepared; None if there is none, or it is to be replayed.

        Whatever goes wrong in a preparation is raised for all who wait for it, and the next request tries anew.
        Nobody waits for the removal of what is not kept any longer, until `close`.
        """
        if request.anchor is None or request.anchor.chunk == 0:
            yield None
            return
        key = _key(request, request.anchor)
        entry = self._entries.get(key)
        if entry is None or entry.failed:
            entry = _Entry(asyncio.ensure_future(self._prepare(request, request.anchor)))
            self._entries[key] = entry
        self._entries.move_to_end(key)
        entry.holders += 1
        try:
            prepared = await asyncio.shield(entry.preparing)
            yield None if entry.refused else prepared
        finally:
            entry.holders -= 1
            self._settle(key, entry)

    def refuse(self, request: RolloutRequest, reason: str) -> None:
        """Have the request's anchor replayed from now on: a fork of it went wrong."""
        entry = None if request.anchor is None else self._entries.get(_key(request, request.anchor))
        if entry is not None:
            entry.refused = True
        self._report(request.env, reason)

    async def close(self) -> None:
        """End all preparations and delete everything that was kept; what cannot be deleted is logged."""
        while self._entries:
            self._remove(self._entries.popitem()[1])
        if self._removals:
            await carry_through(_all(self._removals), "the removal of prepared anchors")

    def _settle(self, key: _Key, entry: _Entry) -> None:
        """Drop an entry that is of no use to anybody any more, and those used longest ago past the limit."""
        if entry.holders == 0 and (entry.failed or not entry.preparing.done()):
            if self._entries.get(key) is entry:
                del self._entries[key]
            self._remove(entry)
        idle = [each for each, kept in self._entries.items() if kept.holders == 0]
        for each in idle[: max(0, len(self._entries) - self._limit)]:
            self._remove(self._entries.pop(each))

    def _remove(self, entry: _Entry) -> None:
        """Begin to remove what is in no table any more, in a task that no rollout's end can cancel."""
        if entry.ending:
            return
        entry.ending = True
        removal = asyncio.create_task(_end(entry))
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)

    async def _prepare(self, request: RolloutRequest, anchor: Anchor) -> PreparedAnchor | None:
        try:
            async with asyncio.timeout(self._seconds):
                environment = self._build(request.env)
                labels = {**self._labels, "trajectory": request.id}
                return await prepare_anchor(request, anchor, environment, self._sandboxes, labels=labels)
        except TimeoutError as error:
            limit = f"anchor {anchor.ref} was not reached within {self._seconds:g} s; raise limits.seconds"
            raise EpisodeTimeoutError(str(error) or limit) from error
        except (CapabilityError, ReplayMismatchError) as error:
            # What the scaffold or its strategies have put into the sandbox is there in a replay alone.
            self._report(request.env, str(error))
            return None

    def _report(self, environment: str, reason: str) -> None:
        if environment not in self._reported:
            self._reported.add(environment)
            _LOG.warning("anchors of environment %s are replayed where they cannot be forked: %s", environment, reason)


def _key(request: RolloutRequest, anchor: Anchor) -> _Key:
    return anchor.expert.id, anchor.chunk, request.env, request.env_seed


async def _end(entry: _Entry) -> None:
    """Stop the preparation if it is under way, and delete what it has made."""
    entry.preparing.cancel()
    await asyncio.wait([entry.preparing])
    if entry.prepared is None:
        return
    try:
        await entry.prepared.discard()
    # Sandbox backends are third-party code: whatever one of them raises ends the removal of this snapshot alone.
    except Exception as error:  # noqa: BLE001  # see above
        _LOG.warning("the snapshot of a prepared anchor was not deleted: %s: %s", type(error).__name__, error)


async def _all(removals: Collection["asyncio.Task[None]"]) -> None:
    await asyncio.wait(list(removals))
