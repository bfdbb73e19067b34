"""What one session's policy said, and clients' histories as the policy's own words; knows no API and no server.

Clients send the whole conversation again with each request, as they understood it. Where a message in it equals a
reply of this session, the reply's own text takes its place, so that the tokens that were sampled are never made again
from what a client echoes. An echo that differs is rendered as it came: the conversation then has drifted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from tumbler.contracts.chat import ChatMessage, ChatReply, Dialect
from tumbler.contracts.values import Message, ToolSpec
from tumbler_backends.gateway import fingerprints
from tumbler_backends.gateway.agents import Agents, Traces
from tumbler_backends.gateway.conversations import Alike, Conversations, Given, Said, runs

__all__ = ["Answered", "History", "Prompt"]

_MOST_OFFERS: Final = 64
"""Lists of tools, and system messages with them, that are kept as they are written."""
_MOST_CHARACTERS: Final = 4 << 20
"""Of those; beyond it all but the last are forgotten, so that sessions cannot fill the memory."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What a call of the policy brought, as the client tells it."""

    call_id: str
    """The id that the call was given here."""
    content: str


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
    steps: Sequence[Said]
    traces: Traces
    """Whose conversation it may be."""


class History:
    """The replies of one session. Calls may run side by side."""

    def __init__(self, dialect: Dialect) -> None:
        """Start with nothing said."""
        self._dialect = dialect
        self._agents = Agents()
        self._conversations = Conversations()
        self._replies: dict[bytes, Alike] = {}
        self._places: set[bytes] = set()
        self._offers: dict[tuple[int, ...], tuple[Sequence[ToolSpec], bytes]] = {}
        self._systems: dict[tuple[tuple[str, ...], bytes], tuple[bytes, tuple[Message, ...]]] = {}
        self._characters = 0
        """Of the system messages."""

    def prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> Prompt:
        """Return a request's conversation in the policy's own words."""
        contents = tuple(each.content for each in takewhile(lambda each: each.role == "system", messages))
        offered = self._of_tools(tools)
        head, system = self._system(contents, tools, offered)
        steps = self._conversations.walk(head, messages[len(contents) :])
        echoes = [step for step in steps if step.of_assistant]
        for step in echoes:
            self._find(step)
        last = next((step for step in reversed(echoes) if step.given is not None), None)
        at_place = next(
            (step.given for step in reversed(echoes) if step.given and step.given.place == step.place), None
        )
        return Prompt(
            messages=(*system, *self._written(steps)),
            cause=self._cause(echoes, None if last is None else last.given, offered),
            place=steps[-1].end if steps else head,
            tools=offered,
            steps=steps,
            traces=Traces(
                kind=(head, offered),
                goes_on=None if at_place is None else at_place.agent,
                quotes=None if last is None or last.given is None else last.given.agent,
            ),
        )

    def agent(self, prompt: Prompt) -> str:
        """Return whose conversation it is: that of an agent known by now, or of a new one."""
        return self._agents.whose(prompt.traces)

    def answers(self, prompt: Prompt) -> Sequence[Answered]:
        """Return what the conversation tells of calls; nothing is told twice."""
        new = list(takewhile(lambda step: not step.told, reversed(prompt.steps)))
        for step in new:
            step.told = True
        return [_answer(step) for step in reversed(new) if step.message.role == "tool"]

    def remember(self, prompt: Prompt, reply: ChatReply, *, agent: str, whole: bool) -> None:
        """Keep a reply as it was sampled; one that the client got only in part is its words no more when it returns."""
        self._places.add(prompt.place)
        if whole:
            given = Given(
                place=prompt.place,
                message=Message(role="assistant", content=reply.text),
                call_ids=tuple(call.id for call in reply.message.calls),
                tools=prompt.tools,
                agent=agent,
            )
            self._replies.setdefault(fingerprints.of_message(reply.message), Alike()).add(given)

    def _find(self, step: Said) -> None:
        """Note the reply that a message echoes: best the one at its place with its ids, else the latest."""
        alike = self._replies.get(step.digest)
        if alike is None or alike.count == step.candidates:
            return
        step.candidates = alike.count
        step.given = alike.best(step.place, tuple(call.id for call in step.message.calls))
        step.written = (step.given.message,)

    def _cause(self, echoes: Sequence[Said], last: Given | None, tools: bytes) -> str | None:
        answered = next((step for step in reversed(echoes) if step.place in self._places), None)
        # Drift further back was met, and told, when the prompt before this one was made.
        if answered is not None and answered.given is None:
            return "drift"
        return "tools" if last is not None and last.tools != tools else None

    def _of_tools(self, tools: Sequence[ToolSpec]) -> bytes:
        key = tuple(map(id, tools))
        if key not in self._offers:
            if len(self._offers) >= _MOST_OFFERS:
                self._offers.clear()
            # The tools are kept, lest others get their identities.
            self._offers[key] = tuple(tools), fingerprints.of_tools(tools)
        return self._offers[key][1]

    def _system(
        self, contents: tuple[str, ...], tools: Sequence[ToolSpec], offered: bytes
    ) -> tuple[bytes, tuple[Message, ...]]:
        """Return the digest of the system messages, and what the policy reads of them and the tools."""
        key = contents, offered
        if key not in self._systems:
            text = self._dialect.system("\n\n".join(contents), tools)
            self._characters += len(text)
            if len(self._systems) >= _MOST_OFFERS or self._characters > _MOST_CHARACTERS:
                self._systems.clear()
                self._offers.clear()
                self._characters = len(text)
            written = (Message(role="system", content=text),) if text else ()
            self._systems[key] = fingerprints.of_head(contents), written
        return self._systems[key]

    def _written(self, steps: Sequence[Said]) -> Iterator[Message]:
        for step, run in runs(steps):
            if step.written is None:
                step.written = tuple(self._dialect.merge([each.message for each in run]))
            yield from step.written


def _answer(step: Said) -> Answered:
    """Return what a tool's answer tells, by the id that the call was given here."""
    caller = step.call
    given = None if caller is None else caller[0].given
    ids = () if given is None else given.call_ids
    # Clients may give calls other ids, but keep their order.
    told = ids[caller[1]] if caller is not None and caller[1] < len(ids) else step.message.call_id or ""
    return Answered(call_id=told, content=step.message.content)
