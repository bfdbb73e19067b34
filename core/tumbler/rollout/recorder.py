"""Builds the trajectory record while an episode runs: segments, chunks, what each call brought."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tumbler.contracts.environment import StepResult
from tumbler.contracts.inference import TextTokenizer
from tumbler.contracts.values import Message, ToolCall
from tumbler.rollout.rendering import Renderer
from tumbler.trajectory.record import Chunk, Segment

__all__ = ["Recorder"]


@dataclass
class _Thread:
    """One agent's running conversation: which segment it is in, and what that segment says."""

    segment: int
    messages: list[Message] = field(default_factory=list)


class Recorder:
    """The record of one episode under construction."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        """Start an empty record."""
        self._tokenizer = tokenizer
        self._renderer = Renderer(tokenizer)
        self._threads: dict[str, _Thread] = {}
        self._token_ids: list[list[int]] = []
        self._segments: list[Segment] = []
        self._chunks: list[Chunk] = []

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Return the segments with their token ids so far."""
        return tuple(
            replace(segment, token_ids=tuple(token_ids))
            for segment, token_ids in zip(self._segments, self._token_ids, strict=True)
        )

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """Return the chunks so far."""
        return tuple(self._chunks)

    def open_call(self, agent_id: str, messages: Sequence[Message]) -> tuple[int, tuple[int, ...]]:
        """Return the segment and the prompt's ids of the agent's next model call."""
        thread = self._threads.get(agent_id)
        if thread is None:
            cause = "start" if not self._segments else "sub-agent"
            thread = self._open_segment(agent_id, messages, cause, parent=len(self._segments) - 1)
        elif not self._extend(thread, messages):
            thread = self._open_segment(agent_id, messages, "rewrite", parent=thread.segment)
        return thread.segment, tuple(self._token_ids[thread.segment])

    def close_call(self, agent_id: str, token_ids: Sequence[int], chunk: Chunk) -> int:
        """Append the reply's ids to the agent's segment and return the new chunk's index.

        `chunk` carries all but its place, which is filled in here.
        """
        thread = self._threads[agent_id]
        history = self._token_ids[thread.segment]
        start = len(history)
        history.extend(token_ids)
        self._chunks.append(replace(chunk, segment=thread.segment, start=start, end=len(history)))
        thread.messages.append(Message(role="assistant", content=chunk.text))
        return len(self._chunks) - 1

    def note_call(self, chunk: int, call: ToolCall, result: StepResult) -> None:
        """Record what a tool call of the chunk brought."""
        before = self._chunks[chunk]
        self._chunks[chunk] = replace(
            before,
            tool_calls=(*before.tool_calls, call),
            observation=f"{before.observation}\n{result.observation}" if before.tool_calls else result.observation,
            reward=before.reward + result.reward,
            errored=before.errored or result.errored,
            relevant=before.relevant and result.relevant,
        )

    def note_rejection(self, chunk: int, reason: str) -> None:
        """Record that the chunk made no call that can be carried out."""
        self._chunks[chunk] = replace(self._chunks[chunk], errored=True, observation=reason)

    def _extend(self, thread: _Thread, messages: Sequence[Message]) -> bool:
        known = len(thread.messages)
        if len(messages) <= known or list(messages[:known]) != thread.messages:
            return False
        history = self._token_ids[thread.segment]
        tail = self._renderer.tail(messages[known:], last_token=history[-1])
        if tail is None:
            return False
        history.extend(tail)
        thread.messages = list(messages)
        return True

    def _open_segment(self, agent_id: str, messages: Sequence[Message], cause: str, parent: int) -> _Thread:
        index = len(self._segments)
        self._segments.append(
            Segment(id=index, token_ids=(), parent=None if parent < 0 else parent, cause=cause, agent_id=agent_id)
        )
        self._token_ids.append(self._renderer.prompt(messages))
        self._threads[agent_id] = _Thread(segment=index, messages=list(messages))
        return self._threads[agent_id]
