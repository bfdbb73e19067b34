"""The pipeline of context strategies: asks each for a plan, checks it, and carries it out or refuses it."""

import copy
import json
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from random import Random

from tumbler.contracts.context import (
    Append,
    Budget,
    ContextStrategy,
    EpisodeFiles,
    LogEntry,
    Pin,
    Plan,
    Refusal,
    Replace,
    State,
    StrategyAnswer,
    StrategyWithThreshold,
    StrategyWithTools,
    Summarise,
    Trigger,
    View,
)
from tumbler.contracts.environment import Task
from tumbler.contracts.inference import TextTokenizer
from tumbler.contracts.values import JSON, Message, ToolCall, ToolSpec
from tumbler.errors import ContextOverflowError, ContextPlanError, ContractError
from tumbler.rollout.context import checks
from tumbler.rollout.context.counting import TokenCounter
from tumbler.rollout.context.files import TextFiles
from tumbler.rollout.context.log import Log
from tumbler.rollout.context.speaking import AskModel, PipelineIO
from tumbler.seeding import derive_seed

__all__ = ["NamedStrategy", "StrategyPipeline"]


@dataclass(frozen=True, kw_only=True)
class NamedStrategy:
    """A strategy with the name that error messages use."""

    name: str
    strategy: ContextStrategy


@dataclass(kw_only=True)
class _Running:
    """A strategy in this episode."""

    name: str
    strategy: ContextStrategy
    state: State
    io: PipelineIO
    refused: bool = False
    """Whether its last plan was refused."""


class StrategyPipeline:
    """An append-only log, shown through the edits that each strategy asked for, in order."""

    def __init__(
        self,
        strategies: Sequence[NamedStrategy],
        tokenizer: TextTokenizer,
        *,
        room: int,
        task: Task,
        seed: int,
        clear_at_least: int = 0,
        model: AskModel | None = None,
        files: EpisodeFiles | None = None,
        on_refused_call: Callable[[int], None] = lambda _call: None,
    ) -> None:
        """Start with an empty log.

        Args:
            strategies: asked in this order before each prompt.
            tokenizer: the served model's.
            room: tokens of the context that are kept for a reply.
            task: what the episode is about.
            seed: seeds the strategies; equal within a group of rollouts.
            clear_at_least: a rewrite that frees fewer tokens is refused.
            model: asks the recorded policy; None where no strategy may.
            files: where strategies keep texts; None keeps them in memory.
            on_refused_call: told which call's reply ended in no summary after all.
        """
        self._tokenizer = tokenizer
        self._limit = tokenizer.context_length - room
        self._counter = TokenCounter(tokenizer)
        self._log = Log(self._counter.message)
        self._clear_at_least = clear_at_least
        self._on_refused_call = on_refused_call
        self._replies: dict[int, str] = {}
        self._requested: Trigger | None = None
        self._in_a_row = 0
        self._correction = 0
        self._estimated = 0
        self._refusals: list[Refusal] = []
        self._summaries: list[Summarise] = []
        """Those carried out for the prompt that is being made."""
        kept = files or TextFiles()
        self._strategies = [
            _Running(
                name=each.name,
                strategy=each.strategy,
                state=each.strategy.start(task, Random(derive_seed(seed, "context", index, each.name))),
                io=PipelineIO(each.name, self._counter, kept, model, self._replies),
            )
            for index, each in enumerate(strategies)
        ]
        self._tools = _offered(self._strategies)

    @property
    def entries(self) -> Sequence[LogEntry]:
        """Return the log as it is shown now."""
        return self._log.entries

    @property
    def refusals(self) -> Sequence[Refusal]:
        """Return the plans that were refused so far."""
        return tuple(self._refusals)

    @property
    def rewritten(self) -> bool:
        """Return whether the last prompt shows something else in place of what an earlier one held."""
        return self._in_a_row > 0

    @property
    def tools(self) -> Sequence[ToolSpec]:
        """Return the strategies' own tools."""
        return [spec for spec, _ in self._tools.values()]

    def append(
        self,
        message: Message,
        *,
        pinned: bool = False,
        sampled: bool = False,
        calls: Sequence[str] | None = None,
        answers: str | None = None,
    ) -> int:
        """Add a message to the log and return its id."""
        return self._log.append(message, pinned=pinned, sampled=sampled, calls=calls, answers=answers)

    def request(self, why: Trigger) -> None:
        """Let the strategies plan for this reason before the next prompt."""
        self._requested = why

    async def call(self, call: ToolCall) -> StrategyAnswer:
        """Carry out a call of a strategy's own tool."""
        _, running = self._tools[call.name]
        strategy = running.strategy
        if not isinstance(strategy, StrategyWithTools):
            raise ContractError(f"context strategy {running.name!r} offers the tool {call.name!r} and has no `call`")
        answer = await strategy.call(call, self._view(running), running.state)
        if answer.plan:
            self._requested = "tool_request"
        return answer

    async def messages(self) -> Sequence[Message]:
        """Let the strategies plan, apply and check their edits, and return what the model is to see."""
        before = self._log
        self._summaries.clear()
        try:
            await self._ask_all()
            rewritten = self._log is not before and _changed(before.entries, self._log.entries)
            self._in_a_row = self._in_a_row + 1 if rewritten else 0
            self._require_fit()
        except BaseException:
            self._summaries.clear()
            raise
        finally:
            self._withhold_unused()
        shown = [entry.message for entry in self._log.entries]
        self._estimated = self._used(self._log) - self._correction
        self._log.note_shown()
        return shown

    async def _ask_all(self) -> None:
        requested, self._requested = self._requested, None
        made_room: dict[int, Log] = {}
        for index, running in enumerate(self._strategies):
            running.io.made.clear()
            if await self._ask(running, requested or self._trigger(running)) == "overflow":
                made_room[index] = self._log
        if self._used(self._log) > self._limit:
            for index, running in enumerate(self._strategies):
                # Whoever has made room is asked again only where another has taken it since.
                if made_room.get(index) is not self._log:
                    await self._ask(running, "overflow")

    def note_prompt(self, tokens: int) -> None:
        """Take the true length of the last prompt: sampled words may be more tokens than their text makes again."""
        self._correction = max(0, tokens - self._estimated)

    def note_reply(self, text: str, token_ids: Sequence[int]) -> None:
        """Take the true length of a reply to the last prompt, which the next one holds as it was sampled."""
        sampled = len(token_ids) - (list(token_ids[-1:]) == [self._tokenizer.end_of_turn])
        self._correction += max(0, sampled - self._counter.text(text))

    def snapshot(self) -> Mapping[str, JSON]:
        """Return a copy of the strategies' states."""
        return {
            f"{index}:{running.name}": json.loads(json.dumps(running.state))
            for index, running in enumerate(self._strategies)
        }

    async def _ask(self, running: _Running, why: Trigger) -> Trigger:
        """Carry out what one strategy asks for, or refuse it as a whole; return why it was asked."""
        budget = Budget(limit=self._limit, used=self._used(self._log), clear_at_least=self._clear_at_least)
        state_before = copy.deepcopy(running.state)
        plan = await self._plan(running, budget, why)
        if not plan.edits:
            return why
        edited = self._edited(running.name, plan)
        if checks.rewrites(plan, self._log.entries):
            waste = checks.find_waste(running.strategy.caps, budget, self._used(edited), self._in_a_row)
            if waste is not None:
                self._refuse(running, waste, state_before)
                return why
        checks.require_legal_roles(running.name, edited.entries, self._tokenizer)
        running.refused = False
        self._log = edited
        self._summaries += [edit for edit in plan.edits if isinstance(edit, Summarise)]
        return why

    async def _plan(self, running: _Running, budget: Budget, why: Trigger) -> Plan:
        strategy, view = running.strategy, self._view(running)
        if not strategy.caps.deterministic or strategy.caps.calls_model:
            return await strategy.plan(view, budget, running.state, why)
        trial = copy.deepcopy(running.state)
        first = await strategy.plan(view, budget, trial, why)
        plan = await strategy.plan(view, budget, running.state, why)
        if first != plan or trial != running.state:
            raise ContextPlanError(
                f"context strategy {running.name!r} promises to be deterministic and planned the same view twice in "
                "different ways; keep all it goes by in its state, and draw from the generator given to start()",
                check="deterministic",
            )
        return plan

    def _edited(self, name: str, plan: Plan) -> Log:
        edited = self._log.copy()
        for edit in plan.edits:
            checks.require_legal_edit(name, edit, edited.entries, self._replies)
            before = edited.entries
            edited.apply(edit)
            if not isinstance(edit, Append | Pin | Replace):
                checks.require_whole_exchanges(name, before, edited.entries)
        return edited

    def _refuse(self, running: _Running, waste: tuple[str, str], state_before: State) -> None:
        running.state.clear()
        running.state.update(state_before)
        running.refused = True
        self._refusals.append(Refusal(strategy=running.name, check=waste[0], reason=waste[1]))

    def _withhold_unused(self) -> None:
        """Tell which calls made for this prompt came to nothing: no summary that is shown holds their words."""
        texts = {entry.message.content for entry in self._log.entries if entry.summary}
        named = {each.call for each in self._summaries if each.call is not None and each.text in texts}
        for running in self._strategies:
            for call in running.io.unused(named):
                self._on_refused_call(call)

    def _trigger(self, running: _Running) -> Trigger:
        used = self._used(self._log)
        if used > self._limit:
            return "overflow"
        strategy = running.strategy
        if isinstance(strategy, StrategyWithThreshold) and used >= strategy.threshold(running.state) * self._limit:
            return "threshold"
        return "turn_end"

    def _view(self, running: _Running) -> View:
        return View(entries=self._log.entries, io=running.io)

    def _used(self, log: Log) -> int:
        return self._counter.base + log.tokens + self._correction if log.entries else 0

    def _require_fit(self) -> None:
        used = self._used(self._log)
        if used <= self._limit:
            return
        bounded = [each.name for each in self._strategies if each.strategy.caps.bounded and not each.refused]
        if bounded and self._least() <= self._limit:
            raise ContextPlanError(
                f"context strategy {bounded[0]!r} promises to bound the prompt and leaves {used} tokens where "
                f"{self._limit} fit; on `overflow` it must leave out more",
                check="bounded",
            )
        raise ContextOverflowError(
            f"the conversation takes {used} tokens and {self._limit} are left for it; "
            "shorten the task's observations, lower max_tokens, or add a context strategy that bounds it"
        )

    def _least(self) -> int:
        """Return the tokens of what no strategy can leave out: pinned entries and the newest exchange."""
        newest = max((entry.exchange for entry in self._log.entries if entry.exchange is not None), default=None)
        kept = (e.tokens for e in self._log.entries if e.pinned or (newest is not None and e.exchange == newest))
        return self._counter.base + sum(kept) + self._correction


def _changed(before: Sequence[LogEntry], after: Sequence[LogEntry]) -> bool:
    """Return whether a shown entry is gone or stands otherwise."""
    left: Mapping[int, LogEntry] = {entry.id: entry for entry in after}
    return any(entry.shown and (entry.id not in left or left[entry.id].message != entry.message) for entry in before)


def _offered(strategies: Sequence[_Running]) -> MutableMapping[str, tuple[ToolSpec, _Running]]:
    tools: dict[str, tuple[ToolSpec, _Running]] = {}
    for running in strategies:
        if not isinstance(running.strategy, StrategyWithTools):
            continue
        for spec in running.strategy.tools():
            if spec.name in tools:
                raise ContractError(
                    f"the context strategies {tools[spec.name][1].name!r} and {running.name!r} both offer a tool "
                    f"{spec.name!r}; use one of them, or rename the tool in the settings of one"
                )
            tools[spec.name] = spec, running
    return tools
