"""The strategies at work in one conversation: each with its state, what it may use, and its tools."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from tumbler.contracts.context import (
    Budget,
    ContextStrategy,
    LogEntry,
    Plan,
    State,
    StrategyWithThreshold,
    StrategyWithTools,
    Trigger,
    View,
)
from tumbler.contracts.environment import Task
from tumbler.contracts.values import ToolSpec
from tumbler.errors import ContextPlanError, ContractError
from tumbler.rollout.context.speaking import PipelineIO
from tumbler.seeding import derive_seed

__all__ = ["NamedStrategy", "Running", "offered", "started"]


@dataclass(frozen=True, kw_only=True)
class NamedStrategy:
    """A strategy with the name that error messages use."""

    name: str
    strategy: ContextStrategy


@dataclass(kw_only=True)
class Running:
    """A strategy in this conversation."""

    key: str
    """Its place among the strategies and its name."""
    name: str
    strategy: ContextStrategy
    state: State
    io: PipelineIO
    refused: bool = False
    """Whether its last plan was refused."""

    def view(self, entries: Sequence[LogEntry]) -> View:
        """Return what the strategy sees."""
        return View(entries=entries, io=self.io)

    def trigger(self, used: int, limit: int) -> Trigger:
        """Return why the strategy is asked where nobody asked for it."""
        if used > limit:
            return "overflow"
        strategy = self.strategy
        if isinstance(strategy, StrategyWithThreshold) and used >= strategy.threshold(self.state) * limit:
            return "threshold"
        return "turn_end"

    async def plan(self, entries: Sequence[LogEntry], budget: Budget, why: Trigger) -> Plan:
        """Return the strategy's plan; raises `ContextPlanError` where it promised one and has two."""
        strategy, view = self.strategy, self.view(entries)
        if not strategy.caps.deterministic or strategy.caps.calls_model:
            return await strategy.plan(view, budget, self.state, why)
        trial = copy.deepcopy(self.state)
        first = await strategy.plan(view, budget, trial, why)
        plan = await strategy.plan(view, budget, self.state, why)
        if first != plan or trial != self.state:
            raise ContextPlanError(
                f"context strategy {self.name!r} promises to be deterministic and planned the same view twice in "
                "different ways; keep all it goes by in its state, and draw from the generator given to start()",
                check="deterministic",
            )
        return plan

    def take_back(self, state: State) -> None:
        """Let the strategy have this state again."""
        self.state.clear()
        self.state.update(state)


def started(
    strategies: Sequence[NamedStrategy], task: Task, seed: int, agent_id: str, io: Callable[[str], PipelineIO]
) -> list[Running]:
    """Return the strategies at the start; sub-agents draw otherwise than the main agent does."""
    agent = () if agent_id == "main" else (agent_id,)
    return [
        Running(
            key=f"{index}:{each.name}",
            name=each.name,
            strategy=each.strategy,
            state=each.strategy.start(task, Random(derive_seed(seed, "context", index, each.name, *agent))),
            io=io(each.name),
        )
        for index, each in enumerate(strategies)
    ]


def offered(strategies: Sequence[Running]) -> Mapping[str, tuple[ToolSpec, Running]]:
    """Return the strategies' tools by name; raises `ContractError` where two have one name."""
    tools: dict[str, tuple[ToolSpec, Running]] = {}
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
