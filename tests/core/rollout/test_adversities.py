"""What goes wrong in the middle of an episode leaves a record that is whole, and nothing behind."""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Sequence

import pytest
from tests.core.rollout.planned import Planned, begin, over, turn

from tumbler.contracts.agent import Episode, Limits, Outcome, Reply
from tumbler.contracts.context import Budget, Plan, State, StrategyCaps, Summarise, Trigger, View
from tumbler.contracts.environment import StepResult, Verdict
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.inference import GenerateRequest, Generation, Sampling
from tumbler.contracts.values import Message, ToolCall
from tumbler.errors import ContractError, InferenceError
from tumbler.rollout.context import StrategyPipeline
from tumbler.rollout.runner import EpisodeParts, LocalEpisodeRunner
from tumbler.rollout.sources import PolicySource, Prompt, ReplaySource
from tumbler.testing.fakes import CharacterTokenizer, ScriptedInference, TwoStepEnvironment, TwoStepSettings
from tumbler.trajectory import Anchor, Chunk, Component, Header, Segment, Trajectory

PartsMaker = Callable[..., EpisodeParts]
RequestMaker = Callable[..., RolloutRequest]
USER = Message(role="user", content="go")


class Acting:
    """An agent whose run is a function."""

    def __init__(self, run: Callable[[Episode], object]) -> None:
        self._run = run

    async def run(self, episode: Episode) -> Outcome:
        await self._run(episode)  # type: ignore[misc]  # a coroutine
        return Outcome(reason="finished")


class Once(Planned):
    """Sums up the first exchange that was shown in the model's words."""

    def __init__(self) -> None:
        super().__init__(lambda *_: Plan(), StrategyCaps(calls_model=True, rewrites="batched"))

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        exchanges = [each for each in view.exchanges() if each.entries[0].shown]
        if not exchanges:
            return Plan()
        state["count"] = int(str(state["count"])) + 1
        assert view.io is not None
        reply = await view.io.model([Message(role="user", content="Sum up.")])
        return Plan(edits=[Summarise(ids=exchanges[0].ids, text=reply.text, call=reply.call)])


class Answering:
    """A model whose replies are numbered, and that hangs in one of them."""

    def __init__(self, hangs: int) -> None:
        self.asked: list[str] = []
        self.hanging = asyncio.Event()
        self._hangs = hangs

    async def __call__(
        self, messages: Sequence[Message], *, agent_id: str, max_tokens: int | None, trainable: bool
    ) -> Reply:
        number = len(self.asked)
        self.asked.append(agent_id)
        if number == self._hangs:
            self.hanging.set()
            await asyncio.Future()
        return Reply(text=f"summary {number}", finish_reason="stop", chunk=number)


async def interrupted(log: StrategyPipeline, model: Answering) -> None:
    """Let the strategies plan, and cancel that while the model hangs."""
    task = asyncio.ensure_future(log.messages())
    async with asyncio.timeout(5):
        await model.hanging.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_prompt_that_was_cancelled_in_a_summary_is_made_anew_as_if_nobody_had_asked() -> None:
    withheld: list[int] = []
    model = Answering(hangs=1)
    log = over(Once(), Once(), model=model, on_refused_call=withheld.append)
    begin(log)
    for _ in range(4):
        turn(log)
    await log.messages()
    before = log.entries, log.snapshot()
    await interrupted(log, model)
    assert model.asked == ["s0/summarizer", "s1/summarizer"]
    assert (log.entries, log.snapshot()) == before, "the first strategy's summary was kept, and its tokens thrown away"
    assert withheld == [0]
    shown = [message.content for message in await log.messages()]
    assert [text for text in shown if text.startswith("summary")] == ["summary 2", "summary 3"]
    assert withheld == [0], "a summary that is shown is not trained"


async def test_a_summary_of_an_earlier_prompt_stays_trainable_when_a_later_one_is_cancelled() -> None:
    withheld: list[int] = []
    model = Answering(hangs=2)
    log = over(Once(), Once(), model=model, on_refused_call=withheld.append)
    begin(log)
    for _ in range(4):
        turn(log)
    await log.messages()
    await log.messages()
    await interrupted(log, model)
    assert [entry.message.content for entry in log.entries if entry.summary] == ["summary 0", "summary 1"]
    assert withheld == []


class Failing(ScriptedInference):
    """Fails, or hangs, in the calls of some numbers."""

    def __init__(self, fails: Sequence[int] = (), hangs: Sequence[int] = ()) -> None:
        super().__init__(lambda _: "fine", CharacterTokenizer())
        self._fails, self._hangs, self._calls = fails, hangs, 0

    async def generate(self, request: GenerateRequest) -> Generation:
        number, self._calls = self._calls, self._calls + 1
        await asyncio.sleep(0)
        if number in self._hangs:
            await asyncio.Future()
        if number in self._fails:
            raise InferenceError("the engine is away")
        return await super().generate(request)


@pytest.mark.parametrize("lost", [0, 1])
async def test_of_two_calls_side_by_side_one_may_fail(
    make_parts: PartsMaker, make_request: RequestMaker, lost: int
) -> None:
    async def run(episode: Episode) -> None:
        first = await episode.model.generate([USER])
        told = [USER, Message(role="assistant", content=first.text), Message(role="user", content="and?")]
        both = await asyncio.gather(*(episode.model.generate(told) for _ in range(2)), return_exceptions=True)
        assert isinstance(both[lost], InferenceError)
        await episode.model.generate([*told, Message(role="assistant", content="fine"), USER])

    parts = make_parts(inference=Failing(fails=[1 + lost]), agent=Acting(run))
    trajectory = await LocalEpisodeRunner(parts)(make_request())
    assert trajectory.status == "completed", trajectory.status_reason
    assert [segment.cause for segment in trajectory.segments] == ["start", "parallel"][: 1 + (lost == 0)]
    assert len(trajectory.chunks) == 3
    last = trajectory.segments[trajectory.chunks[-1].segment]
    assert "".join(map(chr, last.token_ids)).count("fine") == 3


async def test_a_call_that_was_cancelled_and_made_again_goes_on_in_its_segment(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    async def run(episode: Episode) -> None:
        first = await episode.model.generate([USER])
        told = [USER, Message(role="assistant", content=first.text), Message(role="user", content="and?")]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await episode.model.generate(told)
        for _ in range(2):
            with pytest.raises(InferenceError):
                await episode.model.generate(told)
        await episode.model.generate(told)

    parts = make_parts(inference=Failing(hangs=[1], fails=[2, 3]), agent=Acting(run))
    trajectory = await LocalEpisodeRunner(parts)(make_request())
    assert trajectory.status == "completed", trajectory.status_reason
    assert ([segment.cause for segment in trajectory.segments], len(trajectory.chunks)) == (["start"], 2)


class Slow(TwoStepEnvironment):
    """Answers earlier calls later, ends the episode with the call `end`, and counts what it carries out at once."""

    def __init__(self) -> None:
        super().__init__(TwoStepSettings())
        self.carried_out: list[str] = []
        self._busy = 0

    async def step(self, call: ToolCall) -> StepResult:
        self._busy += 1
        assert self._busy == 1, "an environment serves one call at a time"
        for _ in range(10 - len(self.carried_out)):
            await asyncio.sleep(0)
        self.carried_out.append(call.name)
        self._busy -= 1
        return StepResult(observation=f"did {call.name}", terminated=call.name == "end", reward=1.0)


async def test_tool_calls_side_by_side_are_recorded_in_their_order_and_none_is_made_after_the_end(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    environment, results = Slow(), []

    async def run(episode: Episode) -> None:
        reply = await episode.model.generate([USER])
        names = ("one", "two", "end", "three")
        results.extend(
            await asyncio.gather(*(episode.tools.call(ToolCall(name=name), chunk=reply.chunk) for name in names))
        )
        results.append(await episode.tools.call(ToolCall(name="four"), chunk=reply.chunk))

    parts = make_parts(environment=lambda: environment, agent=Acting(run))
    trajectory = await LocalEpisodeRunner(parts)(make_request())
    assert environment.carried_out == ["one", "two", "end"]
    (chunk,) = trajectory.chunks
    assert [call.name for call in chunk.tool_calls] == ["one", "two", "end"]
    assert (chunk.observation, chunk.reward, chunk.errored) == ("did one\ndid two\ndid end", 3.0, False)
    assert [result.terminated for result in results] == [False, False, True, True, True]
    assert {result.observation for result in results[3:]} == {"not carried out: the episode is over"}
    assert sum(result.reward for result in results) == 3.0


async def test_a_tool_call_that_was_cancelled_leaves_the_next_one_its_turn(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    class Stuck(TwoStepEnvironment):
        async def step(self, call: ToolCall) -> StepResult:
            if call.name == "stuck":
                await asyncio.Future()
            return StepResult(observation="fine")

    async def run(episode: Episode) -> None:
        reply = await episode.model.generate([USER])
        stuck = asyncio.ensure_future(episode.tools.call(ToolCall(name="stuck"), chunk=reply.chunk))
        waiting = asyncio.ensure_future(episode.tools.call(ToolCall(name="look"), chunk=reply.chunk))
        await asyncio.sleep(0.01)
        stuck.cancel()
        assert (await waiting).observation == "fine"

    parts = make_parts(environment=lambda: Stuck(TwoStepSettings()), agent=Acting(run))
    trajectory = await LocalEpisodeRunner(parts)(make_request())
    assert trajectory.status == "completed", trajectory.status_reason
    assert [call.name for call in trajectory.chunks[0].tool_calls] == ["look"]


async def test_what_an_agent_leaves_running_is_no_part_of_its_episode(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    left: list[asyncio.Task[object]] = []

    class Thorough(TwoStepEnvironment):
        async def verify(self) -> Verdict:
            await asyncio.wait(left)
            return await super().verify()

    async def run(episode: Episode) -> None:
        reply = await episode.model.generate([USER])
        call = ToolCall(name="look")
        left.append(asyncio.ensure_future(episode.model.generate([USER], agent_id="left")))
        await asyncio.sleep(0)
        left.append(asyncio.ensure_future(episode.model.generate([USER], agent_id="late")))
        left.append(asyncio.ensure_future(episode.tools.call(call, chunk=reply.chunk)))

    parts = make_parts(environment=lambda: Thorough(TwoStepSettings()), inference=Failing(), agent=Acting(run))
    trajectory = await LocalEpisodeRunner(parts)(make_request())
    assert trajectory.status == "completed", trajectory.status_reason
    assert [segment.agent_id for segment in trajectory.segments] == ["main"]
    assert (len(trajectory.chunks), trajectory.chunks[0].tool_calls) == (1, ())
    for task in left:
        assert isinstance(task.exception(), ContractError)


async def test_an_agent_that_never_stops_ends_at_the_episodes_limit_without_a_verdict(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    async def run(episode: Episode) -> None:
        while True:
            reply = await episode.model.generate([USER])
            await episode.tools.call(ToolCall(name="end"), chunk=reply.chunk)

    environment = Slow()
    parts = make_parts(environment=lambda: environment, agent=Acting(run), limits=Limits(seconds=0.1))
    trajectory = await LocalEpisodeRunner(parts)(make_request())
    assert (trajectory.status, trajectory.reward) == ("infra_failed", None)
    assert "limits.seconds" in trajectory.status_reason
    assert environment.carried_out == ["end"]


async def test_an_agents_own_timeout_does_not_pass_for_the_episodes(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    async def run(episode: Episode) -> None:
        raise TimeoutError

    trajectory = await LocalEpisodeRunner(make_parts(agent=Acting(run)))(make_request())
    assert trajectory.status == "infra_failed"
    assert "limits.seconds" not in trajectory.status_reason
    assert trajectory.status_reason.startswith("TimeoutError")


async def test_an_engine_that_cannot_forget_a_conversation_costs_no_episode(
    make_parts: PartsMaker, make_request: RequestMaker, caplog: pytest.LogCaptureFixture
) -> None:
    class Remembering(ScriptedInference):
        async def release(self, session: str) -> None:
            await super().release(session)
            raise InferenceError("it cannot be released")

    async def run(episode: Episode) -> None:
        for agent in ("main", "other"):
            await episode.model.generate([USER], agent_id=agent)

    inference = Remembering(lambda _: "fine")
    with caplog.at_level(logging.WARNING, logger="tumbler.rollout"):
        trajectory = await LocalEpisodeRunner(make_parts(inference=inference, agent=Acting(run)))(make_request())
    assert trajectory.status == "completed"
    assert inference.released == ["r/0", "r/1"]
    assert "it cannot be released" in caplog.text


def expert(*agents: str) -> Trajectory:
    """A trajectory in which each agent spoke once, in this order."""
    component = Component(id="test", version="0", settings_hash="0")
    segments = [
        Segment(id=index, token_ids=(1, 2, 3), cause="start" if index == 0 else "sub-agent", agent_id=agent)
        for index, agent in enumerate(agents)
    ]
    chunks = [
        Chunk(segment=index, start=2, end=3, text=agent, sampled=False, trainable=False)
        for index, agent in enumerate(agents)
    ]
    header = Header(id="expert", task="t", env=component, agent=component)
    return Trajectory(header=header, segments=tuple(segments), chunks=tuple(chunks), reward=1.0, success=True)


@pytest.mark.parametrize("steps", range(3))
async def test_a_replayed_reply_whose_caller_was_cancelled_can_be_asked_for_again(steps: int) -> None:
    anchor = Anchor(expert=expert("a", "b", "c"), chunk=3)
    source = ReplaySource(anchor, PolicySource(ScriptedInference(lambda _: "no"), Sampling(), seed=0))

    def ask(agent: str) -> asyncio.Task[object]:
        prompt = Prompt(session=agent, call=0, token_ids=(1, 2), observation="", agent_id=agent)
        return asyncio.ensure_future(source.speak(prompt))

    second, third = ask("b"), ask("c")
    await asyncio.sleep(0)
    first = ask("a")
    for _ in range(steps):
        await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second], timeout=5)
    if second.cancelled():
        second = ask("b")
    _, waiting = await asyncio.wait([first, second, third], timeout=5)
    assert not waiting, "a reply that nobody got is waited for for ever"
    assert [each.result().chunk.text for each in (first, second, third)] == ["a", "b", "c"]  # type: ignore[attr-defined]


_TOUCHED = contextvars.ContextVar("touched", default="untouched")


class Touched(TwoStepEnvironment):
    """Shows what the scaffold has done to it behind its back, as a file of a strategy in its sandbox would."""

    async def step(self, call: ToolCall) -> StepResult:
        return StepResult(observation=f"{call.name}: {_TOUCHED.get()}")


async def test_an_anchor_that_only_its_scaffold_can_reach_is_replayed(
    make_parts: PartsMaker, make_request: RequestMaker
) -> None:
    async def run(episode: Episode) -> None:
        _TOUCHED.set("touched")
        for turn_ in range(2):
            reply = await episode.model.generate([USER], agent_id=f"a{turn_}")
            await episode.tools.call(ToolCall(name="look"), chunk=reply.chunk)

    parts = make_parts(environment=lambda: Touched(TwoStepSettings()), agent=Acting(run))
    runner = LocalEpisodeRunner(parts)
    recorded = await asyncio.create_task(runner(make_request("first")))
    assert recorded.chunks[0].observation == "look: touched"
    anchor = Anchor(expert=recorded, chunk=1)
    for number in range(2):
        request = make_request(f"fork-{number}", anchor=anchor, fork=True)
        trajectory = await asyncio.create_task(runner(request))
        assert trajectory.status == "completed", trajectory.status_reason
        assert trajectory.details["anchor_restored_by"] == "replay"
        assert [chunk.replayed for chunk in trajectory.chunks] == [True, False]
    await runner.close()
