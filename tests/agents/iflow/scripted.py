"""Conversations and episodes with scripted models, in real sandboxes."""

from collections.abc import Callable, Mapping, Sequence

from tumbler.contracts.agent import Limits
from tumbler.contracts.chat import ChatCall, ChatMessage, ChatReply, OnText
from tumbler.contracts.conversation import Event
from tumbler.contracts.environment import (
    Environment,
    EnvironmentCapabilities,
    Observation,
    StepResult,
    Task,
    Verdict,
)
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.inference import Sampling
from tumbler.contracts.sandbox import Sandbox, SandboxSpec
from tumbler.contracts.values import ToolCall, ToolSpec
from tumbler.dialects import dialect
from tumbler.rollout.context import NamedStrategy, StrategyPipeline
from tumbler.rollout.runner import EpisodeParts, LocalEpisodeRunner, NamedEnvironment
from tumbler.testing.fakes import CharacterTokenizer, ScriptedInference
from tumbler.testing.samples import sample_task
from tumbler.trajectory.record import Anchor, Component, Trajectory
from tumbler_agents.iflow.agent import IflowAgent
from tumbler_agents.iflow.assembly import Host
from tumbler_agents.iflow.conversation import Conversation
from tumbler_agents.iflow.served import ServedSpeaker
from tumbler_agents.iflow.settings import IflowSettings
from tumbler_agents.iflow.transcript import Transcript
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend

HERMES = dialect("hermes")
_COMPONENT = Component(id="test", version="0", settings_hash="0")

Said = str | ChatMessage | Callable[[Sequence[ChatMessage]], "str | ChatMessage"]


def calls(*named: tuple[str, Mapping[str, object]], text: str = "") -> ChatMessage:
    """A reply that makes these calls."""
    made = tuple(
        ChatCall(id=f"call_{index}", name=name, arguments=arguments)  # type: ignore[arg-type]  # JSON values
        for index, (name, arguments) in enumerate(named)
    )
    return ChatMessage(role="assistant", content=text, calls=made)


def call(name: str, **arguments: object) -> ChatMessage:
    """A reply that makes one call."""
    return calls((name, arguments))


def text_of(reply: str | ChatMessage) -> str:
    """The words of a reply in the dialect of the tests."""
    return reply if isinstance(reply, str) else HERMES.write(reply).content


class ScriptedChat:
    """A chat API that gives these replies in order, and the last one for ever; all that it was asked is kept."""

    context_length = 100_000

    def __init__(self, *replies: Said) -> None:
        self._replies = list(replies)
        self.asked: list[Sequence[ChatMessage]] = []
        self.tools: list[str] = []

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec] = (),
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Sequence[str] = (),
        on_text: OnText | None = None,
    ) -> ChatReply:
        self.asked.append(messages)
        self.tools = [tool.name for tool in tools]
        said = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        said = said(messages) if callable(said) else said
        message = said if isinstance(said, ChatMessage) else ChatMessage(role="assistant", content=said)
        if on_text is not None and message.content:
            await on_text(message.content)
        return ChatReply(message=message, stop="calls" if message.calls else "stop")

    def count(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        return sum(len(message.content) for message in messages)


def require_legal(messages: Sequence[ChatMessage]) -> None:
    """Fail where a chat API would refuse the conversation: answers follow their calls, and none is missing."""
    waiting: set[str] = set()
    for message in messages:
        if message.role == "tool":
            assert message.call_id in waiting, f"an orphaned answer: {message}"
            waiting.discard(message.call_id)
            continue
        assert not waiting, f"calls without an answer before {message}"
        waiting = {each.id for each in message.calls}
    assert not waiting, "calls without an answer at the end"


async def events_of(conversation: Conversation, text: str) -> list[Event]:
    return [event async for event in conversation.send(text)]


def host_of(chat: ScriptedChat, **given: object) -> Host:
    """What a conversation with a scripted chat model is given."""
    fields: dict[str, object] = {
        "speaker": ServedSpeaker(chat, HERMES),
        "dialect": HERMES,
        "context": Transcript(),
        "limits": Limits(turns=20, seconds=60),
    }
    return Host(**{**fields, **given})  # type: ignore[arg-type]  # tests replace single fields


def pipeline(*strategies: object, context: int = 4000, room: int = 200) -> StrategyPipeline:
    """A log with strategies over it, one token for each character."""
    named = [NamedStrategy(name=f"s{index}", strategy=each) for index, each in enumerate(strategies)]  # type: ignore[arg-type]
    return StrategyPipeline(named, CharacterTokenizer(context), room=room, task=sample_task(), seed=0)


class BoxEnvironment:
    """A task that is solved by a file `answer` with the word `42` in the sandbox; it has a tool of its own, `hint`."""

    @property
    def capabilities(self) -> EnvironmentCapabilities:
        return EnvironmentCapabilities(needs_sandbox=True)

    async def tasks(self, split: str, *, count: int, seed: int) -> Sequence[Task]:
        return [sample_task(index, split) for index in range(count)]

    def tools(self) -> Sequence[ToolSpec]:
        return [ToolSpec(name="hint", description="Tells what to write.")]

    def sandbox_spec(self, task: Task) -> SandboxSpec | None:
        return SandboxSpec(files={"notes/AGENTS.md": b"Numbers are written in digits.\n", "notes/a": b"one\n"})

    async def reset(self, task: Task, *, seed: int, sandbox: Sandbox | None) -> Observation:
        assert sandbox is not None
        self._sandbox = sandbox
        return Observation(text="Write the answer into the file answer.")

    async def step(self, call: ToolCall) -> StepResult:
        return StepResult(observation="write 42")

    async def verify(self) -> Verdict:
        try:
            solved = await self._sandbox.read("answer") == b"42"
        except FileNotFoundError:
            solved = False
        return Verdict(reward=float(solved), success=solved)

    async def close(self) -> None:
        """Hold nothing."""


class Scripted:
    """A policy that gives replies in order, then the last one for ever; every prompt is kept."""

    def __init__(self, *replies: str | ChatMessage) -> None:
        self._replies = [text_of(reply) for reply in replies]
        self.prompts: list[str] = []

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]


async def episode(
    settings: IflowSettings,
    policy: Callable[[str], str],
    backend: BubblewrapBackend,
    *,
    limits: Limits | None = None,
    strategies: Sequence[NamedStrategy] = (),
    context: int = 60_000,
    environment: Callable[[], Environment] = BoxEnvironment,
    anchor: Anchor | None = None,
    fork: bool = False,
) -> Trajectory:
    """Run one episode of `BoxEnvironment` in a real sandbox; the runner verifies its record."""
    tokenizer = CharacterTokenizer(context)
    parts = EpisodeParts(
        environments={"box": NamedEnvironment(build=environment, component=_COMPONENT)},
        agent=IflowAgent(settings),
        agent_component=_COMPONENT,
        strategies=strategies,
        strategy_components=(),
        tokenizer=tokenizer,
        inference=ScriptedInference(policy, tokenizer),
        sandboxes=backend,
        limits=limits or Limits(turns=20, seconds=60),
    )
    request = RolloutRequest(
        id="episode" if anchor is None else f"after-{anchor.chunk}",
        task=sample_task(),
        seed=1,
        env_seed=1,
        group="g",
        sampling=Sampling(max_tokens=2000),
        env="box",
        anchor=anchor,
        fork=fork,
    )
    runner = LocalEpisodeRunner(parts)
    try:
        return await runner(request)
    finally:
        await runner.close()
