"""The conversations of one session as a tree of messages, so that what was said before is worked on once.

Knows no API and no policy. A message is known by being the same object: whoever reads requests gives the same one for
the same words at the same place.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tumbler.contracts.chat import ChatMessage
from tumbler.contracts.values import Message
from tumbler_backends.gateway import fingerprints

__all__ = ["Alike", "Conversations", "Given", "Said", "runs"]

_MOST_CHARACTERS: Final = 16 << 20
"""Of the messages that are kept; beyond it the tree is begun anew."""
_OF_A_MESSAGE: Final = 1000
"""What a message takes by itself."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """A reply of this session, as it was sampled."""

    place: bytes
    """The digest of the conversation that it answered."""
    message: Message
    call_ids: tuple[str, ...]
    tools: bytes
    agent: str


class Alike:
    """Replies whose words are the same for a client, however often the policy says them."""

    def __init__(self) -> None:
        """Start with none."""
        self.count = 0
        self._latest: dict[tuple[bytes | None, tuple[str, ...] | None], Given] = {}
        """By place and by ids of calls, by one of them alone, and by neither."""

    def add(self, given: Given) -> None:
        """Take one more."""
        self.count += 1
        for place in (given.place, None):
            for ids in (given.call_ids, None):
                self._latest[place, ids] = given

    def best(self, place: bytes, ids: tuple[str, ...]) -> Given:
        """Return the latest of those that fit best: at the place with the ids, at the place, with the ids, or any."""
        keys = ((place, ids), (place, None), (None, ids), (None, None))
        return next(self._latest[key] for key in keys if key in self._latest)


@dataclass(eq=False)
class Said:
    """A conversation up to one message."""

    source: ChatMessage
    """The message as it came."""
    message: ChatMessage
    """The message as it is written for the policy."""
    digest: bytes
    place: bytes
    """The digest of what comes before it."""
    end: bytes
    """The digest with it."""
    before: "Said | None"
    following: "dict[int, Said]" = field(default_factory=dict)
    """By the identity of the next message as it came."""
    given: Given | None = None
    """The reply that it echoes."""
    candidates: int = 0
    """Among how many replies that one was sought."""
    written: Sequence[Message] | None = None
    """How it, or what the others say up to it since an assistant spoke, is written; None while nobody asked."""
    call: "tuple[Said, int] | None" = None
    """Of a tool's answer: who called it, and its place among that one's calls."""
    told: bool = False
    """Whether what it tells of calls was taken note of."""

    @property
    def of_assistant(self) -> bool:
        """Return whether an assistant says it."""
        return self.message.role == "assistant"


class Conversations:
    """The tree."""

    def __init__(self) -> None:
        """Start with nothing said."""
        self._beginnings: dict[bytes, dict[int, Said]] = {}
        """Digest of the system messages → what comes first."""
        self._characters = 0

    def walk(self, head: bytes, messages: Sequence[ChatMessage]) -> Sequence[Said]:
        """Return the steps of a conversation."""
        said: Said | None = None
        callers = _Callers()
        following = self._beginnings.setdefault(head, {})
        steps: list[Said] = []
        for message in messages:
            step = following.get(id(message))
            if step is None:
                step = following[id(message)] = self._new(message, said, head, callers)
            steps.append(step)
            said, following = step, step.following
        if self._characters > _MOST_CHARACTERS:
            self._beginnings.clear()
            self._characters = 0
        return steps

    def _new(self, source: ChatMessage, before: Said | None, head: bytes, callers: "_Callers") -> Said:
        self._characters += _size(source)
        # Templates take no system message further on.
        message = replace(source, role="user") if source.role == "system" else source
        digest = fingerprints.of_message(message)
        place = head if before is None else before.end
        said = Said(
            source=source,
            message=message,
            digest=digest,
            place=place,
            end=fingerprints.after(place, digest),
            before=before,
        )
        said.call = callers.of(said) if message.role == "tool" else None
        # Most APIs leave the tool's name out of its answer.
        if said.call is not None and message.name is None:
            caller, index = said.call
            said.message = replace(message, name=caller.message.calls[index].name)
        return said


class _Callers:
    """Finds who made the calls that are answered in one conversation; looks at each step once, the latest first."""

    def __init__(self) -> None:
        """Look at nothing yet."""
        self._calls: dict[str, tuple[Said, int]] = {}
        """By their ids, those of what was looked at; the latest, where an id was given twice."""
        self._latest: Said | None = None
        """From here back all was looked at …"""
        self._older: Said | None = None
        """… up to here."""

    def of(self, answer: Said) -> tuple[Said, int] | None:
        """Return who made the call that is answered, and the call's place; None where nobody before did."""
        wanted = answer.message.call_id or ""
        if self._latest is None:
            self._older = answer.before
        else:
            self._look_at_new(answer)
        self._latest = answer.before
        while wanted not in self._calls and self._older is not None:
            for identity, place in _calls_of(self._older).items():
                self._calls.setdefault(identity, place)
            self._older = self._older.before
        return self._calls.get(wanted)

    def _look_at_new(self, answer: Said) -> None:
        new, said = [], answer.before
        while said is not None and said is not self._latest:
            new.append(said)
            said = said.before
        for each in reversed(new):
            self._calls.update(_calls_of(each))


def _calls_of(said: Said) -> dict[str, tuple[Said, int]]:
    """Return the calls of a step by their ids; the first one, where an id was given twice."""
    return {call.id: (said, index) for index, call in reversed(list(enumerate(said.message.calls)))}


def _size(message: ChatMessage) -> int:
    arguments = sum(fingerprints.size(call.arguments) for call in message.calls)
    return len(message.content) + len(message.thinking) + arguments + _OF_A_MESSAGE


def runs(steps: Sequence[Said]) -> Iterator[tuple[Said, Sequence[Said]]]:
    """Yield what is written together: a message of the assistant, or all that others say in a row; by its last step."""
    start = 0
    for index, step in enumerate(steps):
        if step.of_assistant or index + 1 == len(steps) or steps[index + 1].of_assistant:
            yield step, steps[start : index + 1]
            start = index + 1
