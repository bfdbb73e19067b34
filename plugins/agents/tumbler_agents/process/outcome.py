"""What the end of a program says of the episode; knows no program of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tumbler.contracts.agent import EndReason
from tumbler.contracts.gateway import GatewayCall
from tumbler.contracts.sandbox_process import ProcessExit
from tumbler.contracts.values import JSON
from tumbler.errors import EpisodeError, InferenceError

__all__ = ["Ended", "details_of", "reason_of"]

_OVER = 410
_TOO_MANY = 429
_SERVER_ERROR = 500
_NO_COMMAND = (126, 127)
_OVERFLOW = "maximum context length"
"""The words by which programs, too, know that a prompt is too long."""
_SAID_BYTES = 800


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A program that has ended."""

    exit: ProcessExit
    connections: int
    """That it made to the gateway."""
    output: bytes = b""
    errors: bytes = b""
    """The last that it said on standard output and standard error."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """What was collected, by name."""
    relay_failure: str = ""
    """Why the way to the gateway was lost before the program ended; empty where it was not."""


def reason_of(ended: Ended, judged: EndReason | None, calls: Sequence[GatewayCall]) -> EndReason:
    """Return why the episode is over; `judged` is what the program's own words say.

    A relay that was ended inside, while its sandbox lives, is the policy's own doing, and counts.

    Raises `InferenceError` where the program ended because its model failed, which is no fault of the policy, and
    `EpisodeError` where the episode could not go on, or the program never came to ask its model.
    """
    last = calls[-1] if calls else None
    if last is not None and last.status == _OVER:
        raise EpisodeError(last.error)
    if last is not None and last.status >= _SERVER_ERROR and judged != "finished":
        raise InferenceError(f"the program gave up because its model did not answer: {last.error}")
    if ended.connections == 0:
        raise EpisodeError(f"the program ended without asking its model: {_describe(ended)}")
    if any(call.status == _TOO_MANY for call in calls):
        return "turn_limit"
    if judged is not None:
        return judged
    if ended.exit.timed_out or ended.relay_failure:
        return "truncated"
    if ended.exit.exit_code == 0:
        return "finished"
    return "context_overflow" if last is not None and _OVERFLOW in last.error else "truncated"


def details_of(ended: Ended, limit: int) -> JSON:
    """Return what is kept of a program, each text's last `limit` bytes."""
    shown: dict[str, JSON] = {
        "exit_code": ended.exit.exit_code,
        "timed_out": ended.exit.timed_out,
        "seconds": round(ended.exit.duration, 3),
        "connections": ended.connections,
        "output": _text(ended.output, limit),
        "errors": _text(ended.errors, limit),
        "files": {name: _text(content, limit) for name, content in ended.files.items()},
    }
    return {**shown, "relay_failure": ended.relay_failure} if ended.relay_failure else shown


def _describe(ended: Ended) -> str:
    if ended.relay_failure:
        return f"the way to the gateway was lost: {ended.relay_failure}"
    how = "ran out of time" if ended.exit.timed_out else f"exited with {ended.exit.exit_code}"
    hint = " (is it in the sandbox?)" if ended.exit.exit_code in _NO_COMMAND else ""
    said = _text(ended.errors.strip() or ended.output.strip(), _SAID_BYTES)
    return f"it {how}{hint}" + (f", and said: {said}" if said else "")


def _text(content: bytes, limit: int) -> str:
    return content[-limit:].decode(errors="replace") if limit else ""
