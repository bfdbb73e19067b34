"""Which entries of a log are answers to the policy's calls, and of which tools; knows no strategy."""

from collections.abc import Mapping, Sequence

from tumbler.contracts.context import Exchange, LogEntry, View
from tumbler.dialects import DIALECTS

__all__ = ["arrivals", "is_observation", "tool_names"]


def is_observation(entry: LogEntry) -> bool:
    """Return whether it answers a call and may be shown otherwise."""
    return (
        entry.exchange is not None
        and not entry.pinned
        and not entry.sampled
        and not entry.summary
        and entry.message.role in ("user", "tool")
    )


def arrivals(view: View) -> Sequence[LogEntry]:
    """Return the observations that no prompt has held yet, of exchanges whose calls are all answered.

    To show them otherwise keeps the token prefix.
    """
    return [
        entry
        for exchange in view.exchanges()
        if not exchange.open
        for entry in exchange.entries
        if is_observation(entry) and not entry.shown
    ]


def tool_names(exchange: Exchange) -> Mapping[int, str]:
    """Return the tool that each observation of an exchange comes from: entry id → name.

    The names are read from the reply's text, in whichever dialect makes as many calls of it as the scaffold did; an
    observation whose tool cannot be told that way is left out.
    """
    reply = next((entry for entry in exchange.entries if entry.sampled), None)
    if reply is None:
        return {}
    answers = [entry for entry in exchange.entries if is_observation(entry)]
    made = len(reply.calls) or len(answers)
    for dialect in DIALECTS.values():
        calls = dialect.read(reply.message.content, call_prefix="").calls
        if len(calls) == made and all(call.name for call in calls):
            named = dict(zip(reply.calls or map(str, range(made)), (call.name for call in calls), strict=True))
            return {
                entry.id: named[key]
                for index, entry in enumerate(answers)
                if (key := entry.answers if entry.answers is not None else str(index)) in named
            }
    return {}
