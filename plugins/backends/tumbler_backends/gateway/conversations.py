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

__all__ = ["Conversations", "Given", "Said", "runs"]

_MOST_CHARACTERS: Final = 16 << 20
"""Of the messages that are kept; beyond it the tree is begun anew."""
_OF_A_MESSAGE: Final = 200
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
    told: bool = False
    """Whether what it tells of calls was taken note of."""

    @property
    def of_assistant(self) -> bool:
        """Return whether an assistant says it."""
        return self.message.role == "assistant"

    def call(self) -> "tuple[Said, int] | None":
        """Return, of a tool's answer, who called it, and its place among that one's calls."""
        said = self.before
        while said is not None:
            for index, call in enumerate(said.message.calls):
                if call.id == self.message.call_id:
                    return said, index
            said = said.before
        return None


class Conversations:
    """The tree."""

    def __init__(self) -> None:
        """Start with nothing said."""
        self._beginnings: dict[bytes, dict[int, Said]] = {}
        """Digest of the system messages → what comes first."""
        self._characters = 0

    def walk(self, head: bytes, messages: Sequence[ChatMessage]) -> Sequence[Said]:
        """Return the steps of a conversation."""
        if self._characters > _MOST_CHARACTERS:
            self._beginnings.clear()
            self._characters = 0
        said: Said | None = None
        following = self._beginnings.setdefault(head, {})
        steps: list[Said] = []
        for message in messages:
            step = following.get(id(message))
            if step is None:
                step = following[id(message)] = self._new(message, said, head)
            steps.append(step)
            said, following = step, step.following
        return steps

    def _new(self, source: ChatMessage, before: Said | None, head: bytes) -> Said:
        self._characters += len(source.content) + len(source.thinking) + _OF_A_MESSAGE
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
        # Most APIs leave the tool's name out of its answer.
        if message.role == "tool" and message.name is None and (caller := said.call()) is not None:
            said.message = replace(message, name=caller[0].message.calls[caller[1]].name)
        return said


def runs(steps: Sequence[Said]) -> Iterator[tuple[Said, Sequence[Said]]]:
    """Yield what is written together: a message of the assistant, or all that others say in a row; by its last step."""
    start = 0
    for index, step in enumerate(steps):
        if step.of_assistant or index + 1 == len(steps) or steps[index + 1].of_assistant:
            yield step, steps[start : index + 1]
            start = index + 1
