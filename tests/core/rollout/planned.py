"""Strategies whose plans are functions, and logs over them, for the tests of the pipeline."""

from collections.abc import Callable, Sequence
from random import Random

from tumbler.contracts.context import Budget, Plan, State, StrategyAnswer, StrategyCaps, Trigger, View
from tumbler.contracts.values import Message, ToolCall, ToolSpec
from tumbler.rollout.context import NamedStrategy, StrategyPipeline
from tumbler.testing.fakes import CharacterTokenizer
from tumbler.testing.samples import sample_task

Planner = Callable[[View, Budget, State, Trigger], Plan]
LONG = "x" * 100


class Planned:
    """A strategy whose plan is a function."""

    def __init__(self, plan: Planner, caps: StrategyCaps | None = None) -> None:
        self._plan, self.caps = plan, caps or StrategyCaps(rewrites="batched")

    def start(self, task: object, rng: Random) -> State:
        return {"draw": rng.random(), "count": 0}

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        return self._plan(view, budget, state, why)


class Counting(Planned):
    """Has a tool that counts its calls."""

    def tools(self) -> Sequence[ToolSpec]:
        return [ToolSpec(name="count", description="Counts.")]

    async def call(self, call: ToolCall, view: View, state: State) -> StrategyAnswer:
        state["count"] = int(str(state["count"])) + 1
        return StrategyAnswer(text=f"{state['count']} of {len(view.entries)} entries")


def over(*strategies: object, context: int = 4000, **more: object) -> StrategyPipeline:
    """Return an empty log with these strategies over it, one token for each character."""
    named = [NamedStrategy(name=f"s{index}", strategy=each) for index, each in enumerate(strategies)]  # type: ignore[arg-type]
    given: dict[str, object] = {"room": 100, "task": sample_task(), "seed": 0, **more}
    return StrategyPipeline(named, CharacterTokenizer(context), **given)  # type: ignore[arg-type]


def begin(log: StrategyPipeline) -> None:
    log.append(Message(role="system", content="Be brief."), pinned=True)
    log.append(Message(role="user", content="Count."), pinned=True)


def turn(log: StrategyPipeline, text: str = LONG) -> None:
    """Add an exchange of one reply and its answer."""
    log.append(Message(role="assistant", content=text), sampled=True)
    log.append(Message(role="user", content=text))
