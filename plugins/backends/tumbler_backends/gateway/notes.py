"""Tells an episode's record what calls the policy made, and what they brought; knows no API.

The client carries the calls out by itself, and tells what they brought with its next request.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from tumbler.contracts.agent import NotingTools
from tumbler.contracts.chat import ChatCall
from tumbler.contracts.environment import StepResult
from tumbler.contracts.values import ToolCall
from tumbler_backends.gateway.history import Answered

__all__ = ["Notes"]


@runtime_checkable
class _RejectingTools(Protocol):
    """Tools that record a chunk without a call that can be carried out, as `EpisodeTools` do."""

    def reject(self, *, chunk: int, reason: str) -> None:
        """Record it."""
        ...


class Notes:
    """The calls of one session that wait for their results."""

    def __init__(self, tools: NotingTools | None) -> None:
        """Tell `tools`; None tells nobody."""
        self._tools = tools
        self._waiting: dict[str, tuple[ToolCall, int]] = {}

    def called(self, calls: Sequence[ChatCall], *, chunk: int) -> None:
        """Take the calls of a chunk, broken ones included: those are recorded at once."""
        if self._tools is None:
            return
        problems = [call.problem for call in calls if call.problem is not None]
        if problems:
            self._reject("\n".join(problems), chunk)
        for call in calls:
            if call.problem is None:
                self._waiting[call.id] = ToolCall(name=call.name, arguments=call.arguments), chunk

    def brought(self, answers: Sequence[Answered]) -> None:
        """Record what calls brought; only what is told first of each."""
        for answer in answers:
            waiting = self._waiting.pop(answer.call_id, None)
            if waiting is not None and self._tools is not None:
                call, chunk = waiting
                self._tools.note(call, StepResult(observation=answer.content), chunk=chunk)

    def _reject(self, reason: str, chunk: int) -> None:
        if isinstance(self._tools, _RejectingTools):
            self._tools.reject(chunk=chunk, reason=reason)
        elif self._tools is not None:
            self._tools.note(ToolCall(name=""), StepResult(observation=reason, errored=True), chunk=chunk)
