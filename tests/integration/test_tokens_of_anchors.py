"""An expert's trajectory is replayed token by token under strategies that rewrite, ask the model, and have tools."""

from collections.abc import Callable, Sequence

import pytest
from tests.integration.tokens_episodes import COMPONENT, HERMES, Library, play

from tumbler.contracts.agent import Limits
from tumbler.contracts.context import ContextStrategy
from tumbler.contracts.environment import ExpertAction, Observation, StepResult, Task, Verdict
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.inference import Sampling
from tumbler.contracts.values import JSON, ToolCall
from tumbler.rollout.context import NamedStrategy
from tumbler.rollout.runner import EpisodeParts, LocalEpisodeRunner, NamedEnvironment
from tumbler.testing import CharacterTokenizer, ScriptedInference, sample_task
from tumbler.trajectory import Anchor, Trajectory, verify_trajectory
from tumbler_agents.context.reset_with_handoff import ResetWithHandoff, ResetWithHandoffSettings
from tumbler_agents.context.summary import SummarySettings, SummaryStrategy
from tumbler_agents.context.todo import Todo, TodoSettings
from tumbler_agents.context.window import Window, WindowSettings
from tumbler_agents.iflow.agent import IflowAgent
from tumbler_agents.iflow.settings import IflowSettings

BESIDE = ("cool", "untrained", "crew")
"""What an agent can do again word for word: equal prompts at once cannot be told apart, nor calls given up in time."""
PIPELINES: dict[str, Callable[[], list[ContextStrategy]]] = {
    "window": lambda: [Window(WindowSettings(keep_last=2))],
    "summary": lambda: [SummaryStrategy(SummarySettings(threshold=0.7, keep_last=2, max_tokens=200))],
    "handoff-todo": lambda: [ResetWithHandoff(ResetWithHandoffSettings(threshold=0.9)), Todo(TodoSettings(every=2))],
}


def require_replayed(trajectory: Trajectory, expert: Trajectory, chunks: int) -> None:
    """Fail unless the trajectory begins with so many chunks of the expert's, each behind the prompt that it had."""
    assert trajectory.status in ("completed", "truncated"), trajectory.status_reason
    verify_trajectory(trajectory)
    assert [chunk.replayed for chunk in trajectory.chunks] == [
        index < chunks for index in range(len(trajectory.chunks))
    ], "the replayed chunks are not the first ones"
    for made, recorded in zip(trajectory.chunks[:chunks], expert.chunks[:chunks], strict=True):
        ours, theirs = trajectory.segments[made.segment], expert.segments[recorded.segment]
        assert ours.token_ids[: made.end] == theirs.token_ids[: recorded.end]
        assert (made.start, ours.agent_id) == (recorded.start, theirs.agent_id)
        assert (made.tool_calls, made.trainable) == (recorded.tool_calls, False)


@pytest.mark.parametrize("name", PIPELINES)
async def test_a_policys_trajectory_can_be_gone_on_from_at_each_of_its_chunks(name: str) -> None:
    rewritten = 0
    for seed in range(6):
        expert = (await play(PIPELINES[name](), seed, beside=BESIDE)).trajectory
        rewritten += len(expert.segments) > 1
        for chunk in range(1, len(expert.chunks)):
            anchor = Anchor(expert=expert, chunk=chunk)
            played = await play(PIPELINES[name](), seed, beside=BESIDE, anchor=anchor)
            require_replayed(played.trajectory, expert, chunk)
            assert len(played.answered) == len(played.trajectory.chunks) - chunk
    assert rewritten == 6


class Guided(Library):
    """A library with an expert that reads eight times; it can be forked."""

    def expert(self, task: Task, *, seed: int) -> "Guide":
        return Guide()

    async def reset(self, task: Task, *, seed: int, sandbox: object) -> Observation:
        return Observation(text="You are in a library.")

    async def step(self, call: ToolCall) -> StepResult:
        self._count += 1
        return StepResult(observation=f"page {self._count} " + "x" * 400)

    async def state(self) -> JSON:
        return self._count

    async def resume(self, task: Task, *, seed: int, sandbox: object, state: JSON) -> None:
        assert isinstance(state, int)
        self._count = state

    async def fingerprint(self) -> str:
        return str(self._count)

    async def verify(self) -> Verdict:
        return Verdict(reward=1.0, success=True)


class Guide:
    def __init__(self) -> None:
        self._left = 8

    def act(self, observation: str) -> ExpertAction | None:
        self._left -= 1
        return ExpertAction(call=ToolCall(name="read", arguments={"size": 400})) if self._left >= 0 else None


def runner(strategies: Sequence[ContextStrategy], policy: Callable[[str], str], context: int) -> LocalEpisodeRunner:
    inference = ScriptedInference(policy, CharacterTokenizer(context))
    parts = EpisodeParts(
        environments={"guided": NamedEnvironment(build=Guided, component=COMPONENT)},
        agent=IflowAgent(IflowSettings(dialect=HERMES.name)),
        agent_component=COMPONENT,
        strategies=[NamedStrategy(name=f"{number}", strategy=each) for number, each in enumerate(strategies)],
        strategy_components=tuple(COMPONENT for _ in strategies),
        tokenizer=inference.tokenizer,
        inference=inference,
        sandboxes=None,
        limits=Limits(turns=12),
    )
    return LocalEpisodeRunner(parts)


def request(**changes: object) -> RolloutRequest:
    fields = {
        "id": "r",
        "task": sample_task(),
        "seed": 1,
        "group": "g",
        "sampling": Sampling(max_tokens=300),
        "env": "guided",
        **changes,
    }
    return RolloutRequest(**fields)  # type: ignore[arg-type]  # tests replace single fields


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("fork", [False, True])
async def test_an_environments_expert_is_replayed_with_the_compactions_it_had(name: str, fork: bool) -> None:
    def strategies() -> list[ContextStrategy]:
        return PIPELINES[name]()

    probe = await runner(strategies(), lambda _: "finished", 60_000)(request(id="probe", source="expert"))
    context = len(probe.segments[0].token_ids) - 1000
    expert = await runner(strategies(), lambda _: "", context)(request(id="expert", source="expert"))
    assert (expert.status, len(expert.chunks)) == ("completed", 9), expert.status_reason
    assert len(expert.segments) > 1, "nothing was compacted"
    going_on = runner(strategies(), lambda _: "finished", context)
    for chunk in range(1, 9):
        trajectory = await going_on(request(anchor=Anchor(expert=expert, chunk=chunk), fork=fork))
        require_replayed(trajectory, expert, chunk)
        assert trajectory.details["anchor_restored_by"] == ("fork" if fork else "replay")
    await going_on.close()


async def test_calls_that_a_strategy_answered_are_replayed_where_a_fork_could_not_repeat_them() -> None:
    replies = ['{"name": "todo_write", "arguments": {"items": [{"text": "a", "status": "pending"}]}}']
    replies += ['{"name": "read", "arguments": {"size": 4}}'] * 2
    words = [f"<tool_call>\n{each}\n</tool_call>" for each in replies] + ["finished"]
    playing = runner([Todo(TodoSettings())], lambda _: words.pop(0), 60_000)
    expert = await playing(request(id="expert"))
    assert [call.name for chunk in expert.chunks for call in chunk.tool_calls] == ["todo_write", "read", "read"]
    words[:] = ["finished"]
    trajectory = await playing(request(anchor=Anchor(expert=expert, chunk=3), fork=True))
    require_replayed(trajectory, expert, 3)
    assert trajectory.details["anchor_restored_by"] == "replay"
    await playing.close()
