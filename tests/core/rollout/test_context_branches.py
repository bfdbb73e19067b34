"""Sub-agents have pipelines of their own, and scaffolds are asked before a rewrite."""

from collections.abc import Sequence
from random import Random

import pytest
from tests.core.rollout.planned import LONG, Counting, Planned, begin, over, turn

from tumbler.contracts.agent import Reply
from tumbler.contracts.context import Budget, Drop, Plan, Replace, State, StrategyCaps, Summarise, Trigger, View
from tumbler.contracts.inference import Sampling
from tumbler.contracts.pipelines import Rewrite, RewriteAnswer
from tumbler.contracts.sandbox import SandboxSpec
from tumbler.contracts.values import Message, ToolCall
from tumbler.errors import ContextOverflowError, ContractError
from tumbler.rollout.context import StrategyPipeline
from tumbler.rollout.context.files import SandboxFiles, TextFiles, files_of_agent
from tumbler.rollout.episode import PhaseClock, RecordedModel, whole_room
from tumbler.rollout.recorder import Recorder
from tumbler.rollout.sources import PolicySource
from tumbler.testing.fakes import CharacterTokenizer, ScriptedInference
from tumbler.testing.memory_sandbox import MemorySandboxBackend


async def test_a_branch_is_empty_and_has_states_of_its_own() -> None:
    log = over(Counting(lambda *_: Plan()))
    begin(log)
    await log.call(ToolCall(name="count"))
    branch = log.branch("main/helper-1")
    assert (len(branch.entries), [spec.name for spec in branch.tools]) == (0, ["count"])
    assert (await branch.call(ToolCall(name="count"))).text == "1 of 0 entries"
    assert (await log.call(ToolCall(name="count"))).text == "2 of 2 entries"
    draws = [each.snapshot()["0:s0"]["draw"] for each in (log, branch, log.branch("main/helper-2"))]  # type: ignore[index,call-overload]
    assert len(set(draws)) == 3
    assert log.branch("main/helper-1").snapshot()["0:s0"]["draw"] == draws[1], "equal seeds drew otherwise"  # type: ignore[index,call-overload]


def test_a_pipeline_is_found_by_its_agent_from_each_of_them() -> None:
    log = over()
    branch = log.branch("main/a-1")
    deeper = branch.branch("main/a-1/b-1")
    for each in (log, branch, deeper):
        assert each.of_agent("main") is log
        assert each.of_agent("main/a-1/b-1") is deeper
        assert each.of_agent("main/c-1") is None


def first_out(view: View, budget: Budget, state: State, why: Trigger) -> Plan:
    """Leave out the first exchange where the prompt does not fit."""
    return Plan(edits=[Drop(ids=view.exchanges()[0].ids)] if why == "overflow" else [])


async def test_the_prompts_and_replies_of_a_branch_count_for_it_alone_and_its_rewrites_have_a_cause() -> None:
    log = over(Planned(first_out), context=700)
    branch = log.branch("helper")
    recorder = Recorder(CharacterTokenizer())
    source = PolicySource(ScriptedInference(lambda _: LONG, CharacterTokenizer()), Sampling(max_tokens=110), seed=0)
    model = RecordedModel(source, recorder, PhaseClock(), episode="e", room=whole_room(600))
    model.attend(log)
    begin(log)
    await model.generate(await log.messages())
    begin(branch)
    for _ in range(4):
        reply = await model.generate(await branch.messages(), agent_id="helper")
        branch.append(Message(role="assistant", content=reply.text), sampled=True)
        branch.append(Message(role="user", content=LONG))
    own = [segment for segment in recorder.segments if segment.agent_id == "helper"]
    assert [segment.cause for segment in own][:2] == ["sub-agent", "rewrite"]
    assert not log.rewritten
    assert len(recorder.segments) == len(own) + 1
    assert sum(chunk.end - chunk.start for chunk in recorder.chunks) == 5 * 101


class Asking(Planned):
    """Sums up all exchanges that were shown in the model's words, where it is asked to."""

    def __init__(self) -> None:
        super().__init__(lambda *_: Plan(), StrategyCaps(calls_model=True, rewrites="batched"))

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        ids = [entry_id for each in view.exchanges() if each.entries[0].shown for entry_id in each.ids]
        if not ids:
            return Plan()
        assert view.io is not None
        reply = await view.io.model([Message(role="user", content="Sum up.")])
        return Plan(edits=[Summarise(ids=tuple(ids), text=reply.text, call=reply.call)])


async def test_a_sub_agents_strategy_asks_in_its_name() -> None:
    asked: list[str] = []

    async def model(messages: Sequence[Message], *, agent_id: str, max_tokens: int | None, trainable: bool) -> Reply:
        asked.append(agent_id)
        return Reply(text="so far", finish_reason="stop", chunk=len(asked))

    log = over(Asking(), model=model)
    for each in (log, log.branch("main/helper-1")):
        begin(each)
        turn(each)
        await each.messages()
        await each.messages()
    assert asked == ["s0/summarizer", "main/helper-1/s0/summarizer"]


async def test_agents_keep_files_of_one_name_apart() -> None:
    backend = MemorySandboxBackend()
    await backend.start()
    sandbox = await backend.create(SandboxSpec())
    for files in (TextFiles(), SandboxFiles(sandbox)):
        agents = ["main", "main/a-1", "main/a/1", "main/a+1", "..", "/"]
        each = [files_of_agent(files, agent) for agent in agents]
        paths = [await own.write("output-1.txt", agent) for own, agent in zip(each, agents, strict=True)]
        assert [await own.read("output-1.txt") for own in each] == agents
        if files.folder is not None:
            assert len(set(paths)) == len(agents)
            assert all(path.startswith("/tmp/context/") and ".." not in path.split("/") for path in paths)
    await backend.close()


async def test_texts_that_no_encoding_holds_are_kept_all_the_same() -> None:
    backend = MemorySandboxBackend()
    await backend.start()
    files = SandboxFiles(await backend.create(SandboxSpec()))
    await files.write("half.txt", "half a pair: \ud800; a byte: \udcff")
    assert str(await files.read("half.txt")).startswith("half a pair: ?; a byte: ")
    await backend.close()


def drop_first(view: View, budget: Budget, state: State, why: Trigger) -> Plan:
    state["count"] = int(str(state["count"])) + 1
    exchanges = view.exchanges()
    return Plan(edits=[Drop(ids=exchanges[0].ids)] if exchanges and exchanges[0].entries[0].shown else [])


class Watcher:
    """A scaffold that answers all rewrites alike, and remembers them."""

    def __init__(self, answer: RewriteAnswer) -> None:
        self.answer = answer
        self.told: list[Rewrite] = []

    async def __call__(self, rewrite: Rewrite) -> RewriteAnswer:
        self.told.append(rewrite)
        return self.answer


async def watched(answer: RewriteAnswer, *strategies: object, **more: object) -> tuple[StrategyPipeline, Watcher]:
    """Return a log after a second prompt of four exchanges, and the watcher."""
    log, watcher = over(*(strategies or (Planned(drop_first),)), **more), Watcher(answer)
    log.watch(watcher)
    begin(log)
    for _ in range(4):
        turn(log)
    await log.messages()
    assert not watcher.told
    await log.messages()
    return log, watcher


async def test_a_scaffold_is_told_of_a_rewrite_before_it_and_shows_again_what_must_not_be_lost() -> None:
    again = Message(role="user", content="the file again")
    log, watcher = await watched(RewriteAnswer(again=[again]))
    (rewrite,) = watcher.told
    assert (rewrite.strategy, rewrite.why) == ("s0", "turn_end")
    assert [entry.id for entry in rewrite.before] == list(range(10))
    assert [entry.id for entry in rewrite.after] == [0, 1, *range(4, 10)]
    assert log.entries[-1].message == again
    assert log.rewritten


async def test_a_rewrite_that_the_scaffold_refuses_is_recorded_and_changes_nothing() -> None:
    log, watcher = await watched(RewriteAnswer(refusal="not now", again=[Message(role="user", content="lost")]))
    assert [entry.id for entry in log.entries] == list(range(10))
    assert [(each.check, each.reason) for each in log.refusals] == [("scaffold", "not now")]
    assert log.snapshot()["0:s0"]["count"] == 1, "the state of a refused plan was kept"  # type: ignore[index,call-overload]
    assert len(watcher.told) == 1


async def test_a_refused_rewrite_without_which_the_prompt_does_not_fit_overflows() -> None:
    log, watcher = (
        over(Planned(first_out, StrategyCaps(bounded=True)), context=950),
        Watcher(RewriteAnswer(refusal="no")),
    )
    log.watch(watcher)
    begin(log)
    for _ in range(3):
        turn(log)
    await log.messages()
    turn(log)
    with pytest.raises(ContextOverflowError):
        await log.messages()
    assert {rewrite.why for rewrite in watcher.told} == {"overflow"}


async def test_what_is_refused_already_or_rewrites_nothing_is_not_told() -> None:
    def little(view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        return Plan(edits=[Replace(id=view.entries[-1].id, content="y" * 99, reason="less")])

    _, watcher = await watched(RewriteAnswer(), Planned(little))
    assert watcher.told == []


async def test_a_scaffold_that_fails_leaves_the_log_as_it_was() -> None:
    async def fail(rewrite: Rewrite) -> RewriteAnswer:
        raise ContractError("a hook is broken")

    log = over(Planned(drop_first))
    log.watch(fail)
    begin(log)
    turn(log)
    await log.messages()
    before = log.entries, log.snapshot()
    with pytest.raises(ContractError):
        await log.messages()
    assert (log.entries, log.snapshot()) == before


def test_two_episodes_of_one_seed_draw_alike_in_their_branches() -> None:
    class Drawing(Planned):
        def start(self, task: object, rng: Random) -> State:
            return {"draws": [rng.random() for _ in range(3)]}

    one, other = [over(Drawing(lambda *_: Plan())).branch("main/a-1").snapshot() for _ in range(2)]
    assert one == other
