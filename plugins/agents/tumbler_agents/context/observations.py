"""Which entries of a log are answers to the policy's calls, which of them are new, and of which tools they are."""

from collections.abc import Iterator, Mapping, Sequence

from tumbler.contracts.chat import ChatCall
from tumbler.contracts.context import Exchange, LogEntry, View
from tumbler.dialects import DIALECTS
from tumbler_agents.context.measuring import counter

__all__ = ["calls_answered", "has_unseen", "is_observation", "long_arrivals"]


def is_observation(entry: LogEntry) -> bool:
    """Return whether it answers a call and may be shown otherwise."""
    return (
        entry.exchange is not None
        and not entry.pinned
        and not entry.sampled
        and not entry.summary
        and entry.message.role in ("user", "tool")
    )


def has_unseen(exchange: Exchange) -> bool:
    """Return whether an answer is there that no prompt has held: it has only just come, maybe to a call of long ago."""
    return any(is_observation(entry) and not entry.shown for entry in exchange.entries)


def long_arrivals(view: View, tokens: int) -> Iterator[tuple[Exchange, LogEntry]]:
    """Return the observations of more than so many tokens that no prompt has held, of exchanges without an open call.

    To show them otherwise keeps the token prefix.
    """
    count = counter(view)
    found = [each for each in view.entries if not each.shown and each.tokens > tokens and is_observation(each)]
    numbers = {entry.exchange for entry in found}
    new = View(entries=[entry for entry in view.entries if entry.exchange in numbers] if found else ())
    exchanges = {exchange.entries[0].exchange: exchange for exchange in new.exchanges()}
    for entry in found:
        if not exchanges[entry.exchange].open and count(entry.message.content) > tokens:
            yield exchanges[entry.exchange], entry


def calls_answered(exchange: Exchange) -> Mapping[int, ChatCall]:
    """Return the call that each observation of an exchange answers: entry id → call.

    The calls are read from the reply's text, in whichever dialect makes as many of it as the scaffold did; an
    observation whose call cannot be told that way is left out. To read a long reply takes time: ask once.
    """
    reply = next((entry for entry in exchange.entries if entry.sampled), None)
    answers: Sequence[LogEntry] = [entry for entry in exchange.entries if is_observation(entry)]
    if reply is None:
        return {}
    made = len(reply.calls) or len(answers)
    for dialect in DIALECTS.values():
        calls = dialect.read(reply.message.content, call_prefix="").calls
        if len(calls) == made and all(call.name for call in calls):
            by_id = dict(zip(reply.calls or map(str, range(made)), calls, strict=True))
            return {
                entry.id: by_id[key]
                for index, entry in enumerate(answers)
                if (key := entry.answers if entry.answers is not None else str(index)) in by_id
            }
    return {}
