"""What a pipeline is put back from: entries, states and counts as JSON; plans nothing.

Whatever is damaged, or was saved by other strategies, is found before anything is taken up.
"""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from pydantic import Field, NonNegativeInt, ValidationError

from tumbler.config import Settings
from tumbler.contracts.context import LogEntry, State, StrategyWithThreshold, Trigger
from tumbler.contracts.inference import TextTokenizer
from tumbler.contracts.values import JSON
from tumbler.errors import ContextPlanError
from tumbler.rollout.context.checks import role_problem
from tumbler.rollout.context.log import LogMarks
from tumbler.rollout.context.running import Running

__all__ = ["LOG", "PipelineCounts", "jsonable", "read_counts", "read_states", "require_whole_log"]

LOG: Final = "log"
"""The key of the pipeline's own counts beside the strategies' states, of which each has a colon in its key."""

_Kinds: TypeAlias = tuple[type, ...]


class PipelineCounts(Settings):
    """What the pipeline counts by itself, and the entries in view do not tell."""

    next_id: NonNegativeInt
    exchanges: NonNegativeInt
    answering: int | None = None
    """The exchange that the next message answers."""

    in_a_row: NonNegativeInt = 0
    """Rewrites on consecutive prompts."""

    correction: NonNegativeInt = 0
    """Tokens that prompts took beyond what was counted."""

    requested: Trigger | None = None
    """Why the strategies are to plan before the next prompt."""

    refused: tuple[str, ...] = Field(default=())
    """The strategies whose last plan was refused."""

    @property
    def marks(self) -> LogMarks:
        """Return the log's part of it."""
        return LogMarks(next_id=self.next_id, exchanges=self.exchanges, answering=self.answering)


def jsonable(state: State) -> dict[str, JSON]:
    """Return a copy of a state that has been through JSON."""
    copied: dict[str, JSON] = json.loads(json.dumps(state))
    return copied


def read_counts(states: Mapping[str, JSON]) -> PipelineCounts:
    """Return the pipeline's own counts; raises `ContextPlanError` (`state`) where they are damaged."""
    try:
        return PipelineCounts.model_validate(states.get(LOG))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise _damaged(f"the counts of the log, under {LOG!r}, are damaged: {problem['msg']}") from error


def read_states(states: Mapping[str, JSON], running: Sequence[Running]) -> Sequence[State]:
    """Return a copy of each strategy's state; raises `ContextPlanError` (`state`) where one is not its own."""
    saved, wanted = [key for key in states if key != LOG], [each.key for each in running]
    if saved != wanted:
        raise _damaged(
            f"they were saved by the context strategies {_named(saved)}, and here there are {_named(wanted)}; "
            "take the conversation up with the strategies that it had"
        )
    return [_state(each, states[each.key]) for each in running]


def require_whole_log(entries: Sequence[LogEntry], counts: PipelineCounts, tokenizer: TextTokenizer) -> None:
    """Raise `ContextPlanError` (`restored`) where the entries are no log that a pipeline can have shown."""
    problem = next(_problems(entries, counts), None)
    if problem is None and entries and entries[-1].message.role != "assistant":
        problem = role_problem(entries, tokenizer)
    if problem is not None:
        raise ContextPlanError(f"the saved log cannot be taken up: {problem}", check="restored")


def _state(running: Running, saved: JSON) -> State:
    if not isinstance(saved, Mapping):
        raise _damaged(f"that of {running.name!r} is no object")
    for key, fresh in running.state.items():
        if key not in saved:
            raise _damaged(f"that of {running.name!r} has no {key!r}")
        if None not in (fresh, saved[key]) and _kind(saved[key]) != _kind(fresh):
            raise _damaged(
                f"{key!r} in that of {running.name!r} is {saved[key]!r:.80}, in place of such as {fresh!r:.80}"
            )
    try:
        state: State = json.loads(json.dumps(dict(saved), allow_nan=False))
        if isinstance(running.strategy, StrategyWithThreshold):
            float(running.strategy.threshold(copy.deepcopy(state)))
    except Exception as error:  # strategies are third-party code, and the state is anybody's
        raise _damaged(f"that of {running.name!r} cannot be used: {type(error).__name__}: {error}") from error
    return state


def _problems(entries: Sequence[LogEntry], counts: PipelineCounts) -> Iterator[str]:
    seen: set[int] = set()
    calls: dict[int, tuple[str, ...]] = {}
    for entry in entries:
        if entry.id in seen or not 0 <= entry.id < counts.next_id:
            yield f"the id {entry.id} is there twice, or was never given"
        seen.add(entry.id)
        number = entry.exchange
        if entry.sampled and (entry.message.role != "assistant" or number is None):
            yield f"entry {entry.id} passes for the policy's words and is no reply of its own exchange"
        if number is None:
            continue
        if not 1 <= number <= counts.exchanges:
            yield f"entry {entry.id} belongs to exchange {number}, and there were {counts.exchanges}"
        if number not in calls:
            calls[number] = entry.calls
            if entry.answers is not None:
                yield f"entry {entry.id} answers the call {entry.answers!r}, and the reply that made it is not there"
        elif entry.calls or (calls[number] and entry.answers not in calls[number]):
            yield f"entry {entry.id} is no answer to the reply of its exchange"


def _kind(value: JSON) -> str:
    kinds: Sequence[tuple[str, _Kinds]] = (
        ("flag", (bool,)),
        ("number", (int, float)),
        ("text", (str,)),
        ("object", (Mapping,)),
    )
    return next((name for name, types in kinds if isinstance(value, types)), "list")


def _named(keys: Sequence[str]) -> str:
    return ", ".join(repr(key.partition(":")[2] or key) for key in keys) or "(none)"


def _damaged(problem: str) -> ContextPlanError:
    return ContextPlanError(f"the saved states of the context strategies cannot be taken up: {problem}", check="state")
