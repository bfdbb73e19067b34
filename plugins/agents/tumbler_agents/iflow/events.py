"""What happens in a conversation, for whoever shows it; knows no loop and no terminal."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tumbler.contracts.values import JSONObject

__all__ = [
    "ApprovalNeeded",
    "CallEnded",
    "CallStarted",
    "Compacted",
    "Done",
    "Emit",
    "EndReason",
    "Event",
    "HookRan",
    "Notice",
    "Said",
    "TextPiece",
]

EndReason: TypeAlias = Literal[
    "finished",
    "terminated",
    "truncated",
    "turn_limit",
    "time_limit",
    "context_overflow",
    "malformed",
    "loop",
    "blocked",
    "interrupted",
    "failed",
]
"""Why an agent stopped: what it says is its answer; the environment ended or cut off; a limit; the prompt no longer
fits; too many calls that cannot be read; the same calls over and over; a hook; the person; an error."""


@dataclass(frozen=True, kw_only=True)
class TextPiece:
    """A piece of a reply's text, where the model gives it as it comes; `Said` has the whole."""

    agent_id: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Said:
    """What an agent said beside its calls."""

    agent_id: str
    text: str
    thinking: str = ""


@dataclass(frozen=True, kw_only=True)
class CallStarted:
    """A tool call is being carried out."""

    agent_id: str
    call_id: str
    name: str
    arguments: JSONObject


@dataclass(frozen=True, kw_only=True)
class CallEnded:
    """A tool call was answered, be it with a refusal."""

    agent_id: str
    call_id: str
    name: str
    text: str
    errored: bool = False


@dataclass(frozen=True, kw_only=True)
class ApprovalNeeded:
    """A call waits for the person's word: `Conversation.decide` with this id."""

    id: int
    agent_id: str
    name: str
    arguments: JSONObject


@dataclass(frozen=True, kw_only=True)
class Compacted:
    """A part of the conversation is no longer shown to the model as it was."""

    agent_id: str
    tokens_before: int
    tokens_after: int


@dataclass(frozen=True, kw_only=True)
class HookRan:
    """A hook was run."""

    event: str
    name: str
    outcome: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """What the scaffold itself has to say to the person."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Done:
    """The agent has stopped; the person may speak again."""

    reason: EndReason
    text: str = ""


Event: TypeAlias = TextPiece | Said | CallStarted | CallEnded | ApprovalNeeded | Compacted | HookRan | Notice | Done
Emit: TypeAlias = Callable[[Event], None]
"""Takes events; must neither block nor raise."""
