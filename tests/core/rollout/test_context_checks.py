"""A strategy that breaks a rule ends its episode, which says which rule; a plan not worth its cost is on record."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import pytest

from tumbler.contracts.agent import Episode, Limits, Outcome
from tumbler.contracts.context import (
    Append,
    Budget,
    Drop,
    Edit,
    Pin,
    Plan,
    Replace,
    Reset,
    State,
    StrategyCaps,
    Summarise,
    Trigger,
    View,
)
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.values import Message
from tumbler.errors import ContextOverflowError
from tumbler.rollout.context import NamedStrategy
from tumbler.rollout.runner import EpisodeParts, LocalEpisodeRunner
from tumbler.testing.fakes import CharacterTokenizer, ScriptedInference
from tumbler.trajectory import Trajectory, verify_trajectory

PartsMaker = Callable[..., EpisodeParts]
RequestMaker = Callable[..., RolloutRequest]
BATCHED = StrategyCaps(rewrites="batched")
DICE = Random(0)


class Planned:
    """A strategy whose edits are a function of the view, once there are three exchanges."""

    def __init__(self, edits: Callable[[View], list[Edit]], caps: StrategyCaps) -> None:
        self._edits, self.caps = edits, caps

    def start(self, task: object, rng: Random) -> State:
        return {}

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        return Plan(edits=self._edits(view) if len(view.exchanges()) >= 3 else [])


class Hasty:
    """Asks again without an answer to what its third reply has called."""

    async def run(self, episode: Episode) -> Outcome:
        episode.context.append(Message(role="user", content="go"), pinned=True)
        for turn in range(episode.limits.turns):
            try:
                reply = await episode.model.generate(await episode.context.messages())
            except ContextOverflowError:
                return Outcome(reason="context_overflow")
            calls = [f"call-{turn}"]
            episode.context.append(Message(role="assistant", content=reply.text), sampled=True, calls=calls)
            if turn < 3:
                episode.context.append(Message(role="user", content="an answer"), answers=calls[0])
        return Outcome(reason="turn_limit")


def first(view: View) -> tuple[int, ...]:
    return view.exchanges()[0].ids


def hint(text: str = "mind") -> Message:
    return Message(role="user", content=text)


def saying(role: str) -> Message:
    return Message(role=role, content="so it is")  # type: ignore[arg-type]  # a role that no strategy may have


def opened(view: View) -> list[Edit]:
    return [Drop(ids=each.ids) for each in view.exchanges() if each.open]


@dataclass(frozen=True)
class Case:
    check: str
    edits: Callable[[View], list[Edit]]
    caps: StrategyCaps = BATCHED
    hasty: bool = False
    context: int = 4096


BROKEN = [
    Case("pairs", lambda view: [Drop(ids=first(view)[:1])]),
    Case("pairs", lambda view: [Summarise(ids=first(view)[1:], text="so far")]),
    Case("pairs", lambda view: [Reset(keep=first(view)[1:])]),
    Case("pinned", lambda view: [Drop(ids=(view.entries[0].id,))]),
    Case("pinned", lambda view: [Replace(id=view.entries[1].id, content="another task", reason="none")]),
    Case("pinned", lambda view: [Pin(ids=first(view)), Drop(ids=first(view))]),
    Case("unknown", lambda _view: [Drop(ids=(10_000,))]),
    Case("unknown", lambda view: [Drop(ids=first(view)), Drop(ids=first(view))]),
    Case("unknown", lambda _view: [Summarise(ids=(), text="nothing")]),
    Case("unanswered", opened, hasty=True),
    Case("unanswered", lambda _view: [Reset()], hasty=True),
    Case("unanswered", lambda view: [Append(message=hint())] if opened(view) else [], hasty=True),
    Case("fabricated", lambda view: [Summarise(ids=first(view), text="so far", call=0)]),
    Case("fabricated", lambda view: [Summarise(ids=first(view), text="so far", call=99)]),
    Case("roles", lambda _view: [Append(message=saying("assistant"))]),
    Case("roles", lambda _view: [Append(message=saying("system"))]),
    Case("roles", lambda _view: [Append(message=saying("tool"))]),
    Case("deterministic", lambda _view: [Append(message=hint(str(DICE.random())))]),
    Case("bounded", lambda _view: [], caps=replace(BATCHED, bounded=True), context=560),
]


async def played(make_parts: PartsMaker, make_request: RequestMaker, case: Case, limits: Limits) -> Trajectory:
    inference = ScriptedInference(lambda _: "@look", CharacterTokenizer(case.context))
    agent = {"agent": Hasty()} if case.hasty else {}
    strategies = [NamedStrategy(name="tried", strategy=Planned(case.edits, case.caps))]
    parts = make_parts(inference=inference, strategies=strategies, limits=limits, **agent)
    return await LocalEpisodeRunner(parts)(make_request())


def name(case: Case) -> str:
    return case.check


@pytest.mark.parametrize("case", BROKEN, ids=name)
async def test_a_plan_that_breaks_a_rule_ends_the_episode_which_names_it(
    make_parts: PartsMaker, make_request: RequestMaker, case: Case
) -> None:
    trajectory = await played(make_parts, make_request, case, Limits(turns=12))
    assert trajectory.status == "infra_failed"
    assert trajectory.status_reason.startswith(f"ContextPlanError ({case.check}): context strategy 'tried' ")
    assert trajectory.reward is None
    assert trajectory.chunks, "it was not caught in the middle of an episode"


WASTEFUL = [
    Case("grows", lambda view: [Replace(id=first(view)[1], content="y" * 500, reason="more")]),
    Case("progress", lambda view: [Replace(id=first(view)[1], content="word", reason="less")]),
    Case("clear_at_least", lambda view: [Drop(ids=each.ids) for each in view.exchanges()[:2]]),
    Case("in-a-row", lambda view: [Drop(ids=each.ids) for each in view.exchanges()[:-1]]),
]


@pytest.mark.parametrize("case", WASTEFUL, ids=name)
async def test_a_plan_that_is_not_worth_its_cost_is_refused_and_the_episode_goes_on(
    make_parts: PartsMaker, make_request: RequestMaker, case: Case
) -> None:
    bound = {"clear_at_least": 10_000} if case.check == "clear_at_least" else {}
    if case.check == "in-a-row":
        case = replace(case, edits=shedding())
    trajectory = await played(make_parts, make_request, case, Limits(turns=12, **bound))
    assert (trajectory.status, len(trajectory.chunks)) == ("truncated", 12)
    refusals = trajectory.details["context_refusals"]
    assert isinstance(refusals, list)
    assert refusals
    assert all(str(each).startswith(f"tried: {case.check}: ") for each in refusals)
    verify_trajectory(trajectory)
    causes = [segment.cause for segment in trajectory.segments]
    if case.check != "in-a-row":
        assert causes == ["start"]
        return
    prompts = [len([c for c in trajectory.chunks if c.segment == segment.id]) for segment in trajectory.segments]
    assert prompts == [7, 1, 2, 1, 1]


def shedding() -> Callable[[View], list[Edit]]:
    """Return edits that leave a sixth of the conversation out at every prompt from the seventh exchange on."""

    def edits(view: View) -> list[Edit]:
        exchanges = view.exchanges()
        oldest = exchanges[0].entries[0].exchange or 0
        newest = exchanges[-1].entries[0].exchange or 0
        return [Drop(ids=each.ids) for each in exchanges[:2]] if newest >= 7 and newest > oldest else []

    return edits
