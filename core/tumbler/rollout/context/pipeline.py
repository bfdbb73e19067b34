"""The pipeline of context strategies: asks each for a plan, checks it, and carries it out or refuses it."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tumbler.contracts.context import (
    Append,
    Budget,
    EpisodeFiles,
    LogEntry,
    Pin,
    Plan,
    Refusal,
    Replace,
    StrategyAnswer,
    StrategyWithTools,
    Summarise,
    Trigger,
    View,
)
from tumbler.contracts.environment import Task
from tumbler.contracts.inference import TextTokenizer
from tumbler.contracts.pipelines import BeforeRewrite, Rewrite, RewriteAnswer
from tumbler.contracts.values import JSON, Message, ToolCall, ToolSpec
from tumbler.errors import ContextOverflowError, ContextPlanError, ContractError
from tumbler.rollout.context import checks, saving
from tumbler.rollout.context.counting import PromptLength, TokenCounter
from tumbler.rollout.context.files import TextFiles, files_of_agent
from tumbler.rollout.context.log import Log
from tumbler.rollout.context.running import NamedStrategy, Running, offered, started
from tumbler.rollout.context.speaking import AskModel, PipelineIO

__all__ = ["StrategyPipeline"]


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What the pipelines of one episode share."""

    strategies: Sequence[NamedStrategy]
    tokenizer: TextTokenizer
    counter: TokenCounter
    room: int
    task: Task
    seed: int
    clear_at_least: int
    model: AskModel | None
    files: EpisodeFiles
    on_refused_call: Callable[[int], None]
    pipelines: "dict[str, StrategyPipeline]" = field(default_factory=dict)
    """By agent."""


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
        parts = _Parts(
            strategies=strategies,
            tokenizer=tokenizer,
            counter=TokenCounter(tokenizer),
            room=room,
            task=task,
            seed=seed,
            clear_at_least=clear_at_least,
            model=model,
            files=files or TextFiles(),
            on_refused_call=on_refused_call,
        )
        self._begin(parts, "main")

    def _begin(self, parts: _Parts, agent_id: str) -> None:
        self._parts = parts
        self._limit = parts.tokenizer.context_length - parts.room
        self._length = PromptLength(parts.counter, parts.tokenizer.end_of_turn)
        self._log = Log(parts.counter.message)
        self._replies: dict[int, str] = {}
        self._requested: Trigger | None = None
        self._in_a_row = 0
        self._refusals: list[Refusal] = []
        self._before_rewrite: BeforeRewrite | None = None
        self._summaries: list[Summarise] = []
        """Those carried out for the prompt that is being made."""
        files = files_of_agent(parts.files, agent_id)
        self._strategies = started(
            parts.strategies,
            parts.task,
            parts.seed,
            agent_id,
            lambda name: PipelineIO(name, parts.counter, files, parts.model, self._replies, agent_id=agent_id),
        )
        self._tools = offered(self._strategies)
        parts.pipelines[agent_id] = self

    def branch(self, agent_id: str) -> "StrategyPipeline":
        """Return an empty log for a sub-agent: the same strategies with fresh states, and files of their own."""
        pipeline = copy.copy(self)
        pipeline._begin(self._parts, agent_id)
        return pipeline

    def of_agent(self, agent_id: str) -> "StrategyPipeline | None":
        """Return the pipeline that was opened last for an agent of this episode, if any."""
        return self._parts.pipelines.get(agent_id)

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
        tool: str = "",
    ) -> int:
        """Add a message to the log and return its id."""
        return self._log.append(message, pinned=pinned, sampled=sampled, calls=calls, answers=answers, tool=tool)

    def request(self, why: Trigger) -> None:
        """Let the strategies plan for this reason before the next prompt."""
        self._requested = why

    async def call(self, call: ToolCall) -> StrategyAnswer:
        """Carry out a call of a strategy's own tool."""
        _, running = self._tools[call.name]
        strategy = running.strategy
        if not isinstance(strategy, StrategyWithTools):
            raise ContractError(f"context strategy {running.name!r} offers the tool {call.name!r} and has no `call`")
        answer = await strategy.call(call, running.view(self._log.entries), running.state)
        if answer.plan:
            self._requested = "tool_request"
        return answer

    async def messages(self) -> Sequence[Message]:
        """Let the strategies plan, apply and check their edits, and return what the model is to see.

        Where that fails, or is cancelled, log and states are as they were.
        """
        log = self._log
        before = [(copy.deepcopy(running.state), running.refused) for running in self._strategies]
        self._summaries.clear()
        for running in self._strategies:
            running.io.made.clear()
        try:
            await self._ask_all()
            self._require_fit()
        except BaseException:
            self._log = log
            self._summaries.clear()
            for running, (state, refused) in zip(self._strategies, before, strict=True):
                running.take_back(state)
                running.refused = refused
            raise
        finally:
            self._withhold_unused()
        rewritten = self._log is not log and _changed(log.entries, self._log.entries)
        self._in_a_row = self._in_a_row + 1 if rewritten else 0
        shown = [entry.message for entry in self._log.entries]
        self._length.note_counted(self._log.tokens)
        self._log.note_shown()
        return shown

    async def _ask_all(self) -> None:
        requested, self._requested = self._requested, None
        made_room: dict[int, Log] = {}
        for index, running in enumerate(self._strategies):
            if await self._ask(running, requested or running.trigger(self._used(self._log), self._limit)) == "overflow":
                made_room[index] = self._log
        if self._used(self._log) > self._limit:
            for index, running in enumerate(self._strategies):
                # Whoever has made room is asked again only where another has taken it since.
                if made_room.get(index) is not self._log:
                    await self._ask(running, "overflow")

    def note_prompt(self, tokens: int) -> None:
        """Take the true length of the last prompt: sampled words may be more tokens than their text makes again."""
        self._length.note_prompt(tokens)

    def note_reply(self, text: str, token_ids: Sequence[int]) -> None:
        """Take the true length of a reply to the last prompt, which the next one holds as it was sampled."""
        self._length.note_reply(text, token_ids)

    def watch(self, before_rewrite: BeforeRewrite) -> None:
        """Ask `before_rewrite` before each rewrite from now on."""
        self._before_rewrite = before_rewrite

    def snapshot(self) -> Mapping[str, JSON]:
        """Return a copy of the strategies' states, and what the pipeline counts by itself."""
        marks = self._log.marks
        counts = saving.PipelineCounts(
            next_id=marks.next_id,
            exchanges=marks.exchanges,
            answering=marks.answering,
            in_a_row=self._in_a_row,
            correction=self._length.correction,
            requested=self._requested,
            refused=tuple(running.key for running in self._strategies if running.refused),
        )
        states: dict[str, JSON] = {running.key: saving.jsonable(running.state) for running in self._strategies}
        return {**states, saving.LOG: counts.model_dump(mode="json")}

    def restore(self, entries: Sequence[LogEntry], states: Mapping[str, JSON]) -> None:
        """Take up the log as it was shown, and the states as `snapshot` gave them."""
        if self._log.marks.next_id:
            raise ContractError("a saved log can be taken up where nothing has been said yet, and this one has begun")
        counts = saving.read_counts(states)
        saved = saving.read_states(states, self._strategies)
        saving.require_whole_log(entries, counts, self._parts.tokenizer)
        self._log.restore(entries, counts.marks)
        self._in_a_row, self._requested = counts.in_a_row, counts.requested
        self._length.correction = counts.correction
        for running, state in zip(self._strategies, saved, strict=True):
            running.take_back(state)
            running.refused = running.key in counts.refused

    async def _ask(self, running: Running, why: Trigger) -> Trigger:
        """Carry out what one strategy asks for, or refuse it as a whole; return why it was asked."""
        clear_at_least = self._parts.clear_at_least
        budget = Budget(limit=self._limit, used=self._used(self._log), clear_at_least=clear_at_least)
        state_before = copy.deepcopy(running.state)
        plan = await running.plan(self._log.entries, budget, why)
        if not plan.edits:
            return why
        edited = self._edited(running.name, plan)
        if checks.rewrites(plan, self._log.entries):
            refusal = checks.find_waste(running.strategy.caps, budget, self._used(edited), self._in_a_row)
            if refusal is None:
                answer = await self._told(running.name, why, edited)
                refusal = ("scaffold", answer.refusal) if answer.refusal else None
                for message in answer.again:
                    edited.append(message)
            if refusal is not None:
                running.take_back(state_before)
                running.refused = True
                self._refusals.append(Refusal(strategy=running.name, check=refusal[0], reason=refusal[1]))
                return why
        checks.require_legal_roles(running.name, edited.entries, self._parts.tokenizer)
        running.refused = False
        self._log = edited
        self._summaries += [edit for edit in plan.edits if isinstance(edit, Summarise)]
        return why

    async def _told(self, name: str, why: Trigger, edited: Log) -> RewriteAnswer:
        """Tell the scaffold of a rewrite, and return what it says."""
        if self._before_rewrite is None:
            return RewriteAnswer()
        return await self._before_rewrite(
            Rewrite(strategy=name, why=why, before=self._log.entries, after=edited.entries)
        )

    def _edited(self, name: str, plan: Plan) -> Log:
        edited = self._log.copy()
        for edit in plan.edits:
            checks.require_legal_edit(name, edit, edited.entries, self._replies)
            before = edited.entries
            edited.apply(edit)
            if not isinstance(edit, Append | Pin | Replace):
                checks.require_whole_exchanges(name, before, edited.entries)
        return edited

    def _withhold_unused(self) -> None:
        """Tell which calls made for this prompt came to nothing: no summary that is shown holds their words."""
        texts = {entry.message.content for entry in self._log.entries if entry.summary}
        named = {each.call for each in self._summaries if each.call is not None and each.text in texts}
        for running in self._strategies:
            for call in running.io.unused(named):
                self._parts.on_refused_call(call)

    def _used(self, log: Log) -> int:
        return self._length.of(log.tokens) if log.entries else 0

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
        """Return the tokens of what no strategy can leave out: pinned entries, the newest exchange and open ones."""
        exchanges = View(entries=self._log.entries).exchanges()
        staying = {entry.id for each in exchanges if each.open or each is exchanges[-1] for entry in each.entries}
        return self._length.of(sum(each.tokens for each in self._log.entries if each.pinned or each.id in staying))


def _changed(before: Sequence[LogEntry], after: Sequence[LogEntry]) -> bool:
    """Return whether a shown entry is gone or stands otherwise."""
    left: Mapping[int, LogEntry] = {entry.id: entry for entry in after}
    return any(entry.shown and (entry.id not in left or left[entry.id].message != entry.message) for entry in before)
