"""The context strategy `subagent`: the policy works on a sub-task in a branch, of which only the result stays."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Self

from pydantic import PositiveInt, model_validator

from tumbler.config import Settings
from tumbler.contracts.context import (
    Budget,
    Drop,
    Edit,
    LogEntry,
    Plan,
    Replace,
    State,
    StrategyAnswer,
    StrategyCaps,
    Summarise,
    Trigger,
    View,
)
from tumbler.contracts.environment import Task
from tumbler.contracts.values import ToolCall, ToolSpec
from tumbler_agents.context.branches import Branch, Branches
from tumbler_agents.context.calling import MalformedCall, ToolName, refused, required_text, text_parameters
from tumbler_agents.context.clipping import clip
from tumbler_agents.context.measuring import counter, freed_by
from tumbler_agents.context.observations import has_unseen
from tumbler_agents.context.reciting import is_shown, newest_exchange, recite
from tumbler_agents.context.worth import least_freed

__all__ = ["Subagent", "SubagentSettings"]

_BRANCH = """\
Opens a branch for a part of the work that takes several steps and of which only the outcome matters, such as a search,
an experiment or a fix. You see all that was said so far, and what you do in the branch is forgotten when you return."""
_RETURN = """\
Closes the branch. Everything since it was opened is left out, and this text stands in its place: give the outcome in
full, with all names, numbers and paths that are needed later, and say what was changed."""


class SubagentSettings(Settings):
    """How far branches go."""

    depth: PositiveInt = 2
    """Branches within each other, at most."""

    max_tokens: PositiveInt = 2048
    """Tokens of a result, at most; a longer one is cut in its middle."""

    recall: PositiveInt = 8
    """Results that are shown again when a compaction has taken them, the newest ones."""

    branch_tool: ToolName = "branch"
    """The name of the tool that opens a branch."""

    return_tool: ToolName = "return_result"
    """The name of the tool that closes it."""

    @model_validator(mode="after")
    def _two_names(self) -> Self:
        if self.branch_tool == self.return_tool:
            raise ValueError(f"both tools are called {self.return_tool!r}; give them different names")
        return self


class Subagent:
    """Folds a branch when it is closed: its exchanges go, and the call that opened it is answered with its result.

    A fold that frees too little to be worth the cache waits for another. What a user said in between stays, and so
    does a closing reply that makes other calls, too. A branch that is never closed is part of the conversation.
    """

    def __init__(self, settings: SubagentSettings) -> None:
        """Keep the settings."""
        self._settings = settings

    @property
    def caps(self) -> StrategyCaps:
        """Promise to rewrite when a branch is closed."""
        return StrategyCaps(rewrites="batched")

    def start(self, task: Task, rng: Random) -> State:
        """Begin without a branch."""
        state: State = {}
        Branches().save(state)
        return state

    def tools(self) -> Sequence[ToolSpec]:
        """Return the tools that open and close a branch."""
        branch = text_parameters(("task",), task="The sub-task, and what its result should say.")
        result = text_parameters(("text",), text="The result.")
        return [
            ToolSpec(name=self._settings.branch_tool, description=_BRANCH, parameters=branch),
            ToolSpec(name=self._settings.return_tool, description=_RETURN, parameters=result),
        ]

    async def call(self, call: ToolCall, view: View, state: State) -> StrategyAnswer:
        """Open or close a branch."""
        branches = Branches.load(state)
        try:
            opens = call.name == self._settings.branch_tool
            answer = self._open(call, view, branches) if opens else self._close(call, view, branches)
        except MalformedCall as error:
            return refused(error)
        branches.save(state)
        return StrategyAnswer(text=answer)

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Fold what is closed, if it is worth it; show again the results and open tasks that a compaction has taken."""
        branches = Branches.load(state)
        if not branches.started or any(exchange.open for exchange in view.exchanges()):
            return Plan()
        edits = [edit for branch in branches.waiting for edit in _fold(view, branch)]
        if edits and freed_by(edits, view) < least_freed(budget):
            edits = []
        else:
            # Where there is nothing to fold, a compaction has taken all of what waits.
            branches.fold()
            branches.save(state)
        return Plan(edits=edits or self._recalled(view, budget, branches))

    def _recalled(self, view: View, budget: Budget, branches: Branches) -> Sequence[Edit]:
        """Return the edit that shows results of folded branches, and what open ones are for, where they were lost."""
        lost = [
            branch.line for branch in branches.folded[-self._settings.recall :] if not is_shown(view, branch.result)
        ]
        lost += [branch.answer for branch in branches.open if not is_shown(view, branch.answer)]
        return recite(view, budget, "\n".join(lost)) if lost else ()

    def _open(self, call: ToolCall, view: View, branches: Branches) -> str:
        task, exchange = " ".join(required_text(call, "task").split()), newest_exchange(view)
        if any(branch.opened == exchange for branch in branches.open) or _closed_at(branches, exchange):
            raise MalformedCall(f"one reply can open or close one branch; call {call.name} in your next one")
        if len(branches.open) >= self._settings.depth:
            back = self._settings.return_tool
            raise MalformedCall(f"{len(branches.open)} branches are open, as many as may be; call {back} first")
        branches.started += 1
        answer = (
            f"Branch {branches.started} is open: {task}\n"
            f"Work on this alone, then call {self._settings.return_tool}: only what you return is kept."
        )
        branches.open.append(Branch(number=branches.started, task=task, opened=exchange, answer=answer))
        return answer

    def _close(self, call: ToolCall, view: View, branches: Branches) -> str:
        text, exchange = required_text(call, "text"), newest_exchange(view)
        if not branches.open:
            raise MalformedCall(f"no branch is open; call {self._settings.branch_tool} to open one")
        if branches.open[-1].opened == exchange or _closed_at(branches, exchange):
            raise MalformedCall(f"one reply can open or close one branch; call {call.name} in your next one")
        count = counter(view)
        result = clip(text, self._settings.max_tokens, count) or "(the result was too long to be kept)"
        branch = branches.close(exchange, result)
        cut = "" if result == text else f" Its result had {count(text)} tokens and was cut."
        within = f"; branch {branches.open[-1].number} is still open" if branches.open else ""
        return f"Branch {branch.number} is closed{within}.{cut}"


def _closed_at(branches: Branches, exchange: int) -> bool:
    return any(branch.closed == exchange for branch in (*branches.waiting, *branches.folded))


def _fold(view: View, branch: Branch) -> Iterator[Edit]:
    """Return the edits that fold a branch, none where nothing of it is in view but what says that it is open."""
    ids = tuple(entry.id for entry in _inside(view, branch))
    if not ids:
        return
    told = [each for each in view.entries if _tells_of(each, branch) and each.id not in ids]
    if not told:
        yield Summarise(ids=ids, text=branch.line)
        return
    yield Drop(ids=ids)
    for entry in told:
        now = branch.line if entry is told[0] else f"Branch {branch.number} is closed."
        content = entry.message.content.replace(branch.answer, now)
        yield Replace(id=entry.id, content=content, reason="folded")


def _tells_of(entry: LogEntry, branch: Branch) -> bool:
    """Return whether the entry says that the branch is open: the answer to the opening call, or a recital of it."""
    return not entry.sampled and not entry.pinned and branch.answer in entry.message.content


def _inside(view: View, branch: Branch) -> list[LogEntry]:
    """Return the entries of the branch's exchanges, and of summaries that stand for some of them alone."""
    last = branch.closed or 0
    going: set[int] = set()
    for exchange in view.exchanges():
        number = exchange.entries[0].exchange or 0
        reply = exchange.entries[0]
        also_calls = number == last and len(reply.calls) > 1
        # Nobody has seen a late answer yet; the one that closes the branch says nothing that the result does not.
        late = has_unseen(exchange) and number != last
        fixed = exchange.open or late or any(entry.pinned for entry in exchange.entries)
        if branch.opened < number <= last and not also_calls and not fixed:
            going.update(exchange.ids)
    places = {entry.exchange: index for index, entry in enumerate(view.entries) if entry.exchange is not None}
    start, end = places.get(branch.opened), places.get(last)
    if start is not None and end is not None:
        going.update(e.id for e in view.entries[start:end] if e.summary and not e.pinned)
    return [entry for entry in view.entries if entry.id in going]
