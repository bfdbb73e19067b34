"""Trajectories as conversations, and those as ChatML and ShareGPT for supervised fine-tuning.

The record keeps prompts as token ids, and as text only the instruction, the replies and the observations: these are
what a conversation is made of. Knows no file.
"""

from dataclasses import dataclass

from tumbler.contracts.values import JSON, JSONObject
from tumbler.errors import TrajectoryError
from tumbler.formats.portable import portable_text
from tumbler.trajectory import Chunk, Trajectory

__all__ = ["Conversation", "Turn", "finished", "opening_text", "to_chatml", "to_conversations", "to_sharegpt"]

_BRANCHES = frozenset({"parallel", "retry"})
"""Causes of segments that go on from an earlier place of their parent, with nothing of it changed."""
_SAME_WORDS = frozenset({"tools"})
"""Causes of segments that go on from all that was said so far."""
_EDITED = frozenset({"rewrite", "drift"})
"""Causes of segments that go on from what was said so far, edited."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One reply, and what the environment answered."""

    reply: str
    observation: str
    weight: int
    """1 if the reply is to be imitated, else 0: then it is there for the context alone."""
    chunk: int
    """The reply's index in the trajectory."""


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """A conversation of an episode's main agent."""

    id: str
    opening: str
    """The instruction and the first observation."""
    turns: tuple[Turn, ...]
    system: str = ""
    """The system message; empty where there is none. The record does not hold it."""

    @property
    def imitable(self) -> bool:
        """Return whether any reply is to be imitated."""
        return any(turn.weight for turn in self.turns)


def finished(trajectory: Trajectory) -> bool:
    """Return whether the agent came to an end by itself or by the environment's rules, and was judged."""
    return trajectory.status == "completed" and trajectory.judged


def opening_text(trajectory: Trajectory) -> str:
    """Return what the agent saw first: the instruction and the first observation; empty if neither is recorded."""
    parts = (trajectory.details.get(name) for name in ("instruction", "first_observation"))
    return "\n".join(str(part) for part in parts if part)


def to_conversations(
    trajectory: Trajectory, *, system: str = "", through_rewrites: bool = False
) -> tuple[Conversation, ...]:
    """Return the main agent's conversations: one, and one more for each branch of parallel or repeated calls.

    Each reply is to be imitated at most once, and stands in the context that it was made in. Replies whose context
    the record does not hold as text are left out: other agents', those to a context strategy, and those after a
    rewrite of the context, unless `through_rewrites` takes the last for answers to the unedited log. `system` becomes
    the system message. Raises `TrajectoryError` if there is no opening or no such reply.
    """
    opening = opening_text(trajectory)
    if not opening:
        raise TrajectoryError(
            f"trajectory {trajectory.id!r} holds neither details.instruction nor details.first_observation, "
            "so its conversation has no beginning"
        )
    paths = _Paths(trajectory, through_rewrites).longest()
    if not paths:
        raise TrajectoryError(f"trajectory {trajectory.id!r} has no reply of its main agent, so no conversation")
    seen: set[int] = set()
    conversations = []
    for number, path in enumerate(paths, 1):
        turns = tuple(_turn(trajectory.chunks[index], index, first=index not in seen) for index in path)
        seen.update(path)
        name = trajectory.id if number == 1 else f"{trajectory.id}#{number}"
        conversations.append(Conversation(id=name, opening=opening, turns=turns, system=system))
    return tuple(conversations)


def to_chatml(conversation: Conversation) -> JSONObject:
    """Return the conversation as `{"messages": […]}`, OpenAI's format for fine-tuning, with a weight on each reply."""
    messages: list[JSON] = []
    if conversation.system:
        messages.append({"role": "system", "content": portable_text(conversation.system)})
    messages.append({"role": "user", "content": portable_text(conversation.opening)})
    for place, turn in enumerate(conversation.turns, 1):
        messages.append({"role": "assistant", "content": portable_text(turn.reply), "weight": turn.weight})
        if place < len(conversation.turns):
            messages.append({"role": "user", "content": portable_text(turn.observation)})
    return {"messages": messages}


def to_sharegpt(conversation: Conversation) -> JSONObject:
    """Return the conversation as ShareGPT's `conversations` of `human` and `gpt` in turn, with a weight on each reply.

    ShareGPT has no rule for weights: a program that does not know ours imitates every reply.
    """
    turns: list[JSON] = [{"from": "human", "value": portable_text(conversation.opening)}]
    for place, turn in enumerate(conversation.turns, 1):
        turns.append({"from": "gpt", "value": portable_text(turn.reply), "weight": turn.weight})
        if place < len(conversation.turns):
            turns.append({"from": "human", "value": portable_text(turn.observation)})
    system: dict[str, JSON] = {"system": portable_text(conversation.system)} if conversation.system else {}
    return {"id": portable_text(conversation.id), **system, "conversations": turns}


@dataclass(frozen=True)
class _Paths:
    """Finds the chunks that lead to each segment of the main agent."""

    trajectory: Trajectory
    through_rewrites: bool

    def longest(self) -> list[tuple[int, ...]]:
        """Return the paths, as indices of chunks, that are no mere beginning of another one."""
        found = [path for segment in self.trajectory.segments if (path := self._path(segment.id))]
        return [each for each in found if not any(each == other[: len(each)] for other in found if other is not each)]

    def _path(self, segment: int) -> tuple[int, ...]:
        """Return the path to the segment's end; empty where the context is not in the record as text."""
        own = self._own(segment)
        parent = self.trajectory.segments[segment].parent
        if parent is None or not own:
            return own if segment == 0 else ()
        before = self._path(parent)
        if not before or self._agent(parent) != self._agent(segment):
            return ()
        cause = self.trajectory.segments[segment].cause
        if cause in _BRANCHES:
            shared = self._shared(parent, segment)
            return (*(index for index in before if not self._beyond(index, parent, shared)), *own)
        if cause in _SAME_WORDS or (cause in _EDITED and self.through_rewrites):
            return (*(index for index in before if index < own[0]), *own)
        return ()

    def _own(self, segment: int) -> tuple[int, ...]:
        return tuple(index for index, chunk in enumerate(self.trajectory.chunks) if chunk.segment == segment)

    def _agent(self, segment: int) -> str:
        return self.trajectory.segments[segment].agent_id

    def _beyond(self, index: int, segment: int, shared: int) -> bool:
        chunk = self.trajectory.chunks[index]
        return chunk.segment == segment and chunk.end > shared

    def _shared(self, parent: int, segment: int) -> int:
        """Return how many tokens both segments begin with."""
        ours, theirs = (self.trajectory.segments[each].token_ids for each in (segment, parent))
        pairs = zip(ours, theirs, strict=False)
        return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))


def _turn(chunk: Chunk, index: int, *, first: bool) -> Turn:
    weight = _weight(chunk) if first else 0
    return Turn(reply=chunk.text, observation=chunk.observation, weight=weight, chunk=index)


def _weight(chunk: Chunk) -> int:
    """Return 1 for a chunk that supervised training imitates (Eq. 1-2 of arXiv 2512.24873), once each.

    What was replayed belongs to the expert's own trajectory, and what the policy sampled but may not be trained on
    was rejected by the scaffold.
    """
    rejected = chunk.sampled and not chunk.trainable
    return int(chunk.relevant and not chunk.errored and not chunk.replayed and not rejected)
