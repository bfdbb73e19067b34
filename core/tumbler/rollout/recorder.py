"""Builds the trajectory record while an episode runs: segments, chunks, what each call brought.

A conversation that goes on from where an earlier one stood after a reply keeps that one's token ids: the same segment
grows where it stood last, and a copy of its beginning opens a new one anywhere else. Calls may run side by side; what
is not closed leaves no trace.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tumbler.contracts.environment import StepResult
from tumbler.contracts.inference import TextTokenizer
from tumbler.contracts.values import Message, ToolCall
from tumbler.errors import ContractError
from tumbler.rollout.rendering import Renderer
from tumbler.trajectory.record import Chunk, Segment

__all__ = ["OpenCall", "Recorder"]


@dataclass(eq=False)
class _Thread:
    """One running conversation: what it says so far, in words and in ids."""

    key: int
    agent_id: str
    messages: list[Message] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    segment: int | None = None
    """None until its first reply."""
    calling: bool = False
    last_chunk: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenCall:
    """A model call under way: close it with its reply, or abandon it."""

    session: str
    """Names the conversation, for the engine's cache."""
    token_ids: tuple[int, ...]
    number: int
    """How many calls were opened before."""
    _thread: _Thread
    _messages: tuple[Message, ...]
    _parent: _Thread | None
    _cause: str


@dataclass(frozen=True, kw_only=True, eq=False)
class _Place:
    """Where a conversation stood after a reply."""

    thread: _Thread
    tokens: int
    last_chunk: int

    @property
    def free(self) -> bool:
        """Return whether the conversation can go on here without a copy."""
        return not self.thread.calling and self.tokens == len(self.thread.token_ids)


@dataclass(eq=False)
class _Node:
    """What an agent's conversations have said up to some message, and how they go on."""

    following: dict[Message, "_Node"] = field(default_factory=dict)
    places: list[_Place] = field(default_factory=list)
    """Where conversations stand that say the same, the newest last."""


class Recorder:
    """The record of one episode under construction."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        """Start an empty record."""
        self._tokenizer = tokenizer
        self._renderer = Renderer(tokenizer)
        self._threads: list[_Thread] = []
        self._recorded: list[_Thread] = []
        """The threads that have a segment, in its order."""
        self._beginnings: dict[str, _Node] = {}
        """Agent → the root of its conversations."""
        self._segments: list[Segment] = []
        self._chunks: list[Chunk] = []
        self._noted: set[int] = set()
        """The chunks of which it was noted what they brought."""
        self._calls = 0
        self._sealed = False

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Return the segments with their token ids so far."""
        return tuple(
            replace(segment, token_ids=tuple(thread.token_ids))
            for segment, thread in zip(self._segments, self._recorded, strict=True)
        )

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """Return the chunks so far."""
        return tuple(self._chunks)

    @property
    def sessions(self) -> Sequence[str]:
        """Return the names of all conversations that were begun."""
        return [str(thread.key) for thread in self._threads]

    def seal(self) -> None:
        """Take nothing more: the agent has stopped, and what it has left running is no part of the episode."""
        self._sealed = True

    def open_call(self, agent_id: str, messages: Sequence[Message], *, cause: str | None = None) -> OpenCall:
        """Return the prompt's ids of the agent's next model call; `cause` says why, if a new segment must open."""
        self._require_open()
        conversation = tuple(messages)
        place, known = self._find(agent_id, conversation)
        tail = None
        if place is not None:
            last_token = place.thread.token_ids[place.tokens - 1]
            tail = self._renderer.tail(conversation[known:], last_token=last_token)
        if place is None or tail is None:
            parent, found = self._origin(agent_id)
            return self._begin(agent_id, conversation, self._renderer.prompt(conversation), parent, cause or found)
        token_ids = [*place.thread.token_ids[: place.tokens], *tail]
        self._note_what_followed(place, conversation[known:])
        thread = place.thread
        if not place.free:
            cause = cause or _departure(thread, conversation, known)
            return self._begin(agent_id, conversation, token_ids, thread, cause)
        thread.calling = True
        return self._open(thread, conversation, token_ids, parent=None, cause="")

    def close_call(self, call: OpenCall, token_ids: Sequence[int], chunk: Chunk) -> int:
        """Append the reply's ids to the call's segment and return the new chunk's index.

        `chunk` carries all but its place, which is filled in here.
        """
        self._require_open()
        thread = call._thread
        if thread.segment is None:
            thread.segment = self._add_segment(thread, call._parent, call._cause)
        start = len(call.token_ids)
        thread.token_ids = [*call.token_ids, *token_ids]
        thread.messages = [*call._messages, Message(role="assistant", content=chunk.text)]
        thread.calling = False
        self._chunks.append(replace(chunk, segment=thread.segment, start=start, end=len(thread.token_ids)))
        thread.last_chunk = len(self._chunks) - 1
        self._note_place(thread, _Place(thread=thread, tokens=len(thread.token_ids), last_chunk=thread.last_chunk))
        return thread.last_chunk

    def abandon_call(self, call: OpenCall) -> None:
        """Forget a call that brought no reply."""
        call._thread.calling = False

    def note_call(self, chunk: int, call: ToolCall, result: StepResult) -> None:
        """Record what a tool call of the chunk brought."""
        self._require_open()
        before = self._chunks[chunk]
        self._chunks[chunk] = replace(
            before,
            tool_calls=(*before.tool_calls, call),
            observation=self._observed(chunk, result.observation),
            reward=before.reward + result.reward,
            errored=before.errored or result.errored,
            relevant=before.relevant and result.relevant,
        )

    def note_rejection(self, chunk: int, reason: str) -> None:
        """Record that the chunk made no call that can be carried out."""
        self._require_open()
        observation = self._observed(chunk, reason)
        self._chunks[chunk] = replace(self._chunks[chunk], errored=True, observation=observation)

    def withhold(self, chunk: int) -> None:
        """Keep a chunk out of training."""
        self._chunks[chunk] = replace(self._chunks[chunk], trainable=False)

    def _require_open(self) -> None:
        if self._sealed:
            raise ContractError(
                "the episode is over, and a task that its agent has left running goes on; "
                "an agent must end all that it has started before it returns"
            )

    def _observed(self, chunk: int, text: str) -> str:
        """Return what a chunk has brought in all, in order, with one more text."""
        before = f"{self._chunks[chunk].observation}\n" if chunk in self._noted else ""
        self._noted.add(chunk)
        return before + text

    def _find(self, agent_id: str, messages: tuple[Message, ...]) -> tuple[_Place | None, int]:
        """Return the last place that the conversation goes on from, and how many messages lead to it."""
        node = self._beginnings.get(agent_id)
        place, known = None, 0
        for number, message in enumerate(messages[:-1], 1):
            node = None if node is None else node.following.get(message)
            if node is None:
                break
            if node.places:
                place, known = next((each for each in reversed(node.places) if each.free), node.places[-1]), number
        return place, known

    def _note_place(self, thread: _Thread, place: _Place) -> None:
        """Keep where a conversation stands."""
        node = self._beginnings.setdefault(thread.agent_id, _Node())
        for message in thread.messages:
            node = node.following.setdefault(message, _Node())
        node.places.append(place)

    def _origin(self, agent_id: str) -> tuple[_Thread | None, str]:
        """Return the segment that a conversation from nowhere comes after, and why there is one."""
        own = [thread for thread in self._recorded if thread.agent_id == agent_id]
        if own:
            return own[-1], "rewrite"
        return (self._recorded[-1], "sub-agent") if self._recorded else (None, "start")

    def _begin(
        self,
        agent_id: str,
        messages: tuple[Message, ...],
        token_ids: list[int],
        parent: _Thread | None,
        cause: str,
    ) -> OpenCall:
        thread = _Thread(key=len(self._threads), agent_id=agent_id, calling=True)
        self._threads.append(thread)
        return self._open(thread, messages, token_ids, parent=parent, cause=cause)

    def _open(
        self,
        thread: _Thread,
        messages: tuple[Message, ...],
        token_ids: list[int],
        *,
        parent: _Thread | None,
        cause: str,
    ) -> OpenCall:
        self._calls += 1
        return OpenCall(
            session=str(thread.key),
            token_ids=tuple(token_ids),
            number=self._calls - 1,
            _thread=thread,
            _messages=messages,
            _parent=parent,
            _cause=cause,
        )

    def _add_segment(self, thread: _Thread, parent: _Thread | None, cause: str) -> int:
        if not self._segments:
            cause = "start"
        elif cause == "start":
            cause = "parallel"  # two first calls at once
        origin = None if parent is None else parent.segment
        self._segments.append(
            Segment(id=len(self._segments), token_ids=(), parent=origin, cause=cause, agent_id=thread.agent_id)
        )
        self._recorded.append(thread)
        return len(self._segments) - 1

    def _note_what_followed(self, place: _Place, messages: Sequence[Message]) -> None:
        """Take what came after a reply for its observation, where nobody noted another."""
        chunk = self._chunks[place.last_chunk]
        if place.last_chunk not in self._noted and not chunk.observation and messages[0].role != "assistant":
            answer = next(
                (messages[:end] for end, message in enumerate(messages) if message.role == "assistant"), messages
            )
            observation = "\n".join(message.content for message in answer)
            self._chunks[place.last_chunk] = replace(chunk, observation=observation)


def _departure(thread: _Thread, messages: tuple[Message, ...], known: int) -> str:
    """Return why a conversation leaves a thread that it shares `known` messages with."""
    follows = thread.messages[known : len(messages)]
    if thread.calling and len(thread.messages) == known:
        return "parallel"
    return "retry" if tuple(follows) == messages[known:] else "rewrite"
