"""A log that is put back goes on as if it had never been away; what is damaged or foreign changes nothing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from tests.core.rollout.planned import LONG, Counting, Planned, begin, over, turn

from tumbler.contracts.context import Append, Budget, Drop, LogEntry, Plan, Replace, State, Trigger, View
from tumbler.contracts.inference import Sampling
from tumbler.contracts.pipelines import AgentPipeline, BranchingPipeline, RestorablePipeline, WatchedPipeline
from tumbler.contracts.values import JSON, Message, ToolCall
from tumbler.errors import ContextPlanError, ContractError
from tumbler.rollout.context import StrategyPipeline
from tumbler.rollout.episode import PhaseClock, RecordedModel, whole_room
from tumbler.rollout.recorder import Recorder
from tumbler.rollout.sources import PolicySource
from tumbler.testing.fakes import CharacterTokenizer, ScriptedInference


def busy(view: View, budget: Budget, state: State, why: Trigger) -> Plan:
    """Leave out the first exchange when there are four, count in the state, and name what was new by its id."""
    state["count"] = int(str(state["count"])) + 1
    new = [each for each in view.entries if not each.shown and not each.sampled and len(each.message.content) > 50]
    edits: list[object] = [Replace(id=each.id, content=f"output-{each.id}", reason="long") for each in new]
    if len(view.exchanges()) > 3 or (why == "user_request" and view.exchanges()):
        edits.append(Drop(ids=view.exchanges()[0].ids))
    edits.append(Append(message=Message(role="user", content=f"turn {state['count']}"), volatile=True))
    return Plan(edits=edits)  # type: ignore[arg-type]


def busy_log() -> StrategyPipeline:
    return over(Planned(busy), Counting(lambda *_: Plan()))


def saved(log: StrategyPipeline) -> tuple[Sequence[LogEntry], Mapping[str, JSON]]:
    return log.entries, json.loads(json.dumps(log.snapshot()))


async def talk(log: StrategyPipeline, turns: int) -> list[Sequence[Message]]:
    seen = []
    for _ in range(turns):
        messages = await log.messages()
        seen.append(messages)
        log.note_prompt(len(CharacterTokenizer().render(messages, add_generation_prompt=True)) + 5)
        turn(log)
    return seen


def test_the_cores_pipeline_keeps_the_optional_contracts() -> None:
    for protocol in (RestorablePipeline, BranchingPipeline, AgentPipeline, WatchedPipeline):
        assert isinstance(over(), protocol)


@pytest.mark.parametrize("turns", range(8))
async def test_a_log_that_is_put_back_is_shown_as_one_that_was_never_away(turns: int) -> None:
    whole, again = busy_log(), busy_log()
    begin(whole)
    await talk(whole, turns)
    await whole.call(ToolCall(name="count"))
    whole.request("user_request")
    again.restore(*saved(whole))
    assert saved(again) == saved(whole)
    assert await talk(again, 6) == await talk(whole, 6)
    assert saved(again) == saved(whole), "what follows was counted otherwise"


async def test_rewrites_in_a_row_are_counted_across_a_break() -> None:
    def plan(view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        return Plan(edits=[Drop(ids=view.exchanges()[0].ids)] if view.exchanges()[0].entries[0].shown else [])

    log = over(Planned(plan))
    begin(log)
    for _ in range(6):
        turn(log)
    for _ in range(3):
        await log.messages()
        again = over(Planned(plan))
        again.restore(*saved(log))
        log = again
    await log.messages()
    assert [refusal.check for refusal in log.refusals] == ["in-a-row"]


class Model:
    """A recorded policy that says how long its prompt was, and talks over a log."""

    def __init__(self, log: StrategyPipeline, recorder: Recorder) -> None:
        self.recorder = recorder
        inference = ScriptedInference(lambda prompt: f"{len(prompt)} characters", CharacterTokenizer())
        source = PolicySource(inference, Sampling(max_tokens=50), seed=0)
        self.model = RecordedModel(source, recorder, PhaseClock(), episode="e", room=whole_room(10_000))
        self.model.attend(log)
        self.log = log

    async def turns(self, count: int) -> list[tuple[int, ...]]:
        """Return the ids of the prompts."""
        prompts = []
        for _ in range(count):
            reply = await self.model.generate(await self.log.messages())
            prompts.append(reply.prompt_ids)
            self.log.append(Message(role="assistant", content=reply.text), sampled=True, calls=["a"])
            self.log.append(Message(role="user", content=LONG), answers="a", tool="look")
        return prompts


async def test_a_conversation_that_is_taken_up_asks_the_same_token_by_token_and_records_what_is_new_alone() -> None:
    whole = Model(busy_log(), Recorder(CharacterTokenizer()))
    begin(whole.log)
    await whole.turns(5)
    again = Model(busy_log(), Recorder(CharacterTokenizer()))
    again.log.restore(*saved(whole.log))
    assert await again.turns(6) == await whole.turns(6)
    assert len(again.recorder.chunks) == 6
    assert [chunk.text for chunk in again.recorder.chunks] == [chunk.text for chunk in whole.recorder.chunks[5:]]
    ids = {(chunk.segment, place) for chunk in again.recorder.chunks for place in range(chunk.start, chunk.end)}
    assert len(ids) == sum(len(chunk.behaviour_logprobs) for chunk in again.recorder.chunks)


async def test_over_the_record_that_holds_it_a_conversation_goes_on_in_its_segment() -> None:
    recorder = Recorder(CharacterTokenizer())
    first = Model(over(), recorder)
    begin(first.log)
    await first.turns(2)
    second = Model(over(), recorder)
    second.log.restore(*saved(first.log))
    await second.turns(2)
    assert len(recorder.segments) == 1
    assert [chunk.segment for chunk in recorder.chunks] == [0, 0, 0, 0]


def damaged(whole: StrategyPipeline, **states: object) -> tuple[Sequence[LogEntry], dict[str, JSON]]:
    return whole.entries, {**saved(whole)[1], **states}  # type: ignore[dict-item]  # what anybody may have written


async def refused(entries: Sequence[LogEntry], states: Mapping[str, JSON]) -> ContextPlanError:
    """Return the error, and fail unless the log can still be used."""
    log = busy_log()
    untouched = saved(log)
    with pytest.raises(ContextPlanError) as problem:
        log.restore(entries, states)
    assert saved(log) == untouched
    begin(log)
    await log.messages()
    return problem.value


async def begun() -> StrategyPipeline:
    log = busy_log()
    begin(log)
    await talk(log, 5)
    return log


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (None, "is no object"),
        ([], "is no object"),
        ({"count": 1}, "has no 'draw'"),
        ({"count": "one", "draw": 0.5}, "'count' in that of 's0' is 'one'"),
        ({"count": 1, "draw": float("nan")}, "cannot be used"),
    ],
)
async def test_a_damaged_state_is_told_and_changes_nothing(state: object, said: str) -> None:
    problem = await refused(*damaged(await begun(), **{"0:s0": state}))
    assert problem.check == "state"
    assert said in str(problem)


class Watchful(Planned):
    def threshold(self, state: State) -> float:
        return {0: 0.5}[int(str(state["count"]))]


def test_a_state_in_which_a_strategy_has_no_threshold_is_damaged() -> None:
    log = over(Watchful(lambda *_: Plan()))
    states = {**saved(log)[1], "0:s0": {"draw": 0.1, "count": 7}}
    with pytest.raises(ContextPlanError, match="cannot be used: KeyError"):
        over(Watchful(lambda *_: Plan())).restore([], states)


@pytest.mark.parametrize("counts", [None, {}, {"next_id": -1, "exchanges": 0}, {"next_id": 9, "exchanges": 9, "x": 1}])
async def test_damaged_counts_are_told(counts: object) -> None:
    problem = await refused(*damaged(await begun(), log=counts))
    assert problem.check == "state"
    assert "counts of the log" in str(problem)


async def test_states_of_other_strategies_are_told_by_name() -> None:
    log = over(Planned(lambda *_: Plan()))
    begin(log)
    problem = await refused(*saved(log))
    assert "by the context strategies 's0', and here there are 's0', 's1'" in str(problem)
    assert "the context strategies (none)" in str(await refused(log.entries, {"log": saved(log)[1]["log"]}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda log: [*log, log[-1]], "is there twice"),
        (lambda log: [replace(log[0], id=10_000), *log[1:]], "never given"),
        (lambda log: [*log[:2], *log[3:]], "the reply that made it is not there"),
        (lambda log: [*log[:-1], replace(log[-1], answers="b")], "is no answer to the reply of its exchange"),
        (lambda log: [*log[:-1], replace(log[-1], exchange=99)], "belongs to exchange 99"),
        (lambda log: [log[0], replace(log[1], sampled=True), *log[2:]], "passes for the policy's words"),
        (lambda log: [*log[2:4], *log[:2], *log[4:]], "system message"),
        (lambda log: log[2:4], "begins with the role 'assistant'"),
    ],
)
async def test_entries_that_no_pipeline_can_have_shown_are_told(change: object, said: str) -> None:
    log = Model(busy_log(), Recorder(CharacterTokenizer()))
    begin(log.log)
    await log.turns(3)
    entries, states = saved(log.log)
    problem = await refused(change(list(entries)), states)  # type: ignore[operator]  # a function of a list
    assert problem.check == "restored"
    assert said in str(problem)


def test_a_log_that_has_begun_takes_up_no_other() -> None:
    log = busy_log()
    begin(log)
    with pytest.raises(ContractError, match="has begun"):
        log.restore(*saved(busy_log()))


async def test_an_unanswered_call_is_answered_after_it_was_taken_up() -> None:
    log, again = over(), over()
    begin(log)
    await log.messages()
    log.append(Message(role="assistant", content="look twice"), sampled=True, calls=["a", "b"])
    log.append(Message(role="user", content="a room"), answers="a", tool="look")
    again.restore(*saved(log))
    again.append(Message(role="user", content="interrupted"), answers="b")
    assert {entry.exchange for entry in again.entries[2:]} == {1}
    assert [entry.tool for entry in again.entries] == ["", "", "", "look", ""]
    assert len(await again.messages()) == 5
