"""What one session's policy said, and clients' histories as the policy's own words; knows no API and no server.

Clients send the whole conversation again with each request, as they understood it. Where a message in it equals a
reply of this session, the reply's own text takes its place, so that the tokens that were sampled are never made again
from what a client echoes. An echo that differs is rendered as it came: the conversation then has drifted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from tumbler.contracts.chat import ChatMessage, ChatReply, Dialect
from tumbler.contracts.values import Message, ToolSpec
from tumbler_backends.gateway import fingerprints

__all__ = ["History", "Prompt"]

_Known: TypeAlias = "_Given | None"


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A conversation as the policy reads it."""

    messages: tuple[Message, ...]
    cause: str | None
    """Why it does not go on from the session's last words, where that can be told: drift or tools."""
    place: bytes
    """The digest of the structured conversation: where the reply will stand."""
    tools: bytes
    """The digest of the tools on offer."""


@dataclass(frozen=True, kw_only=True)
class _Given:
    """A reply of this session."""

    place: bytes
    text: str
    call_ids: tuple[str, ...]
    tools: bytes


class History:
    """The replies of one session. Calls may run side by side."""

    def __init__(self, dialect: Dialect) -> None:
        """Start with nothing said."""
        self._dialect = dialect
        self._replies: dict[bytes, list[_Given]] = {}
        self._places: set[bytes] = set()

    def prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> Prompt:
        """Return a request's conversation in the policy's own words."""
        head, rest = _split(messages)
        digests = [fingerprints.of_message(message) for message in rest]
        *places, end = fingerprints.prefixes([_of_head(head), *digests])
        known = [
            self._find(digest, place, message) if message.role == "assistant" else None
            for digest, place, message in zip(digests, places[1:], rest, strict=True)
        ]
        offered = fingerprints.of_tools(tools)
        return Prompt(
            messages=tuple(self._flatten(head, _with_names(rest), known, tools)),
            cause=self._cause(rest, places[1:], known, offered),
            place=end,
            tools=offered,
        )

    def remember(self, prompt: Prompt, reply: ChatReply, *, whole: bool) -> None:
        """Keep a reply as it was sampled; one that the client got only in part is its words no more when it returns."""
        self._places.add(prompt.place)
        if whole:
            given = _Given(
                place=prompt.place,
                text=reply.text,
                call_ids=tuple(call.id for call in reply.message.calls),
                tools=prompt.tools,
            )
            self._replies.setdefault(fingerprints.of_message(reply.message), []).append(given)

    def _find(self, digest: bytes, place: bytes, message: ChatMessage) -> _Known:
        """Return the reply that a message echoes: best the one at its place with its ids, else the latest."""
        candidates = self._replies.get(digest, ())
        ids = tuple(call.id for call in message.calls)
        return max(reversed(candidates), key=lambda given: (given.place == place, given.call_ids == ids), default=None)

    def _cause(
        self, messages: Sequence[ChatMessage], places: Sequence[bytes], known: Sequence[_Known], tools: bytes
    ) -> str | None:
        echoes = [index for index, message in enumerate(messages) if message.role == "assistant"]
        answered = [index for index in echoes if places[index] in self._places]
        # Drift further back was met, and told, when the prompt before this one was made.
        if answered and known[answered[-1]] is None:
            return "drift"
        last = next((known[index] for index in reversed(echoes) if known[index] is not None), None)
        return "tools" if last is not None and last.tools != tools else None

    def _flatten(
        self,
        head: Sequence[ChatMessage],
        messages: Sequence[ChatMessage],
        known: Sequence[_Known],
        tools: Sequence[ToolSpec],
    ) -> Iterator[Message]:
        system = self._dialect.system("\n\n".join(message.content for message in head), tools)
        if system:
            yield Message(role="system", content=system)
        said: list[ChatMessage] = []
        for message, given in zip(messages, known, strict=True):
            if given is None:
                said.append(message)
                continue
            yield from self._dialect.merge(said)
            said = []
            yield Message(role="assistant", content=given.text)
        yield from self._dialect.merge(said)


def _of_head(head: Sequence[ChatMessage]) -> bytes:
    return fingerprints.digest(b"".join(fingerprints.of_message(message) for message in head))


def _split(messages: Sequence[ChatMessage]) -> tuple[Sequence[ChatMessage], Sequence[ChatMessage]]:
    """Return the system messages at the beginning, and the others; templates take no system message further on."""
    count = next((index for index, message in enumerate(messages) if message.role != "system"), len(messages))
    rest = [replace(each, role="user") if each.role == "system" else each for each in messages[count:]]
    return messages[:count], rest


def _with_names(messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
    """Return the messages with the tools' names in their answers, which most APIs leave out."""
    names: dict[str, str] = {}
    named = []
    for message in messages:
        names.update({call.id: call.name for call in message.calls})
        if message.role == "tool" and message.name is None and message.call_id in names:
            named.append(replace(message, name=names[message.call_id]))
        else:
            named.append(message)
    return named
