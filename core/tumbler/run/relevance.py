"""Which turns of a demonstration are worth imitating, told from its log alone. Knows no environment and no tensor."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal, TypeAlias

from tumbler.trajectory.record import Chunk, Trajectory

__all__ = ["RELEVANCE_RULES", "RelevanceRule", "relevant_chunks"]

RelevanceRule: TypeAlias = Literal["repeated-call", "no-effect", "undone", "after-success"]
"""A reason to leave a turn out of supervised training (the second mask of Eq. 1-2, arXiv 2512.24873).

- `repeated-call`: the agent made the same calls in an earlier turn and got the same answer.
- `no-effect`: the answer is exactly that of the agent's turn before: nothing that is shown has changed.
- `undone`: the answer is exactly that of an earlier turn, so that the turns since then, this one included,
  led back to where the agent was. What is left has no loop. It includes `no-effect`.
- `after-success`: the task was solved, and nothing was rewarded any more from this turn on.

A turn that was rewarded is always relevant, and so is the last one: a policy has to learn to stop.

`no-effect` and `undone` are for environments whose answers show their state. In a shell, a command that
changes a file may print what an earlier one did, and they take useful turns for detours. An empty answer
shows nothing and is never compared.
"""


def relevant_chunks(trajectory: Trajectory, rules: Collection[RelevanceRule]) -> Trajectory:
    """Return the trajectory with each turn that a rule finds marked as not relevant.

    What was marked so before stays so: the rules add to what environment and expert know. No token
    changes, so that every turn stays in the context of the later ones.
    """
    chunks = trajectory.chunks
    found = {index for rule in rules for index in RELEVANCE_RULES[rule](trajectory)}
    detours = {index for index in found if chunks[index].reward <= 0 and index < len(chunks) - 1}
    marked = (replace(chunk, relevant=False) if index in detours else chunk for index, chunk in enumerate(chunks))
    return replace(trajectory, chunks=tuple(marked))


def _repeated_calls(trajectory: Trajectory) -> Iterator[int]:
    for turns in _turns_by_agent(trajectory):
        known = []
        for index, chunk in turns:
            if _answered(chunk) and (chunk.tool_calls, chunk.observation) in known:
                yield index
            known.append((chunk.tool_calls, chunk.observation))


def _without_effect(trajectory: Trajectory) -> Iterator[int]:
    for turns in _turns_by_agent(trajectory):
        for (_, before), (index, chunk) in pairwise(turns):
            if _answered(chunk) and chunk.observation == before.observation:
                yield index


def _undone(trajectory: Trajectory) -> Iterator[int]:
    for turns in _turns_by_agent(trajectory):
        path: list[tuple[int, Chunk]] = []
        for index, chunk in turns:
            path.append((index, chunk))
            loop = _loop(path) if _answered(chunk) else []
            # A reward on the way means that the way led somewhere.
            if all(each.reward <= 0 for _, each in loop):
                yield from (place for place, _ in loop)
                del path[len(path) - len(loop) :]


def _loop(path: Sequence[tuple[int, Chunk]]) -> Sequence[tuple[int, Chunk]]:
    """Return the turns that led from the last answer, when it was given before, to the last turn."""
    last = path[-1][1].observation
    same = [place for place, (_, each) in enumerate(path) if each.observation == last]
    return path[same[-2] + 1 :] if len(same) > 1 else ()


def _after_success(trajectory: Trajectory) -> Iterable[int]:
    rewarded = [index for index, chunk in enumerate(trajectory.chunks) if chunk.reward > 0]
    if not trajectory.success or not rewarded:
        return ()
    return range(rewarded[-1] + 1, len(trajectory.chunks))


RELEVANCE_RULES: Mapping[RelevanceRule, Callable[[Trajectory], Iterable[int]]] = {
    "repeated-call": _repeated_calls,
    "no-effect": _without_effect,
    "undone": _undone,
    "after-success": _after_success,
}
"""Rule → function that returns the indices of the chunks that it finds."""


def _turns_by_agent(trajectory: Trajectory) -> Iterable[Sequence[tuple[int, Chunk]]]:
    turns: dict[str, list[tuple[int, Chunk]]] = defaultdict(list)
    for index, chunk in enumerate(trajectory.chunks):
        turns[trajectory.segments[chunk.segment].agent_id].append((index, chunk))
    return turns.values()


def _answered(chunk: Chunk) -> bool:
    return bool(chunk.tool_calls and chunk.observation)
