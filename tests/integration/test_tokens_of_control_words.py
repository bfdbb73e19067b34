"""Words that control something somewhere are only words where they stand in a prompt: same flow, same tokens."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.tokens_episodes import COMPONENT, HERMES, Library
from tests.integration.tokens_templates import CONTROL, TEMPLATES, make_tokenizer

from tumbler.contracts.agent import Agent, Limits
from tumbler.contracts.chat import ChatCall, ChatMessage
from tumbler.contracts.context import ContextStrategy
from tumbler.contracts.environment import Observation, StepResult, Task
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.inference import GenerateRequest, Sampling
from tumbler.contracts.values import Message, ToolCall
from tumbler.rollout.context import NamedStrategy
from tumbler.rollout.rendering import Renderer
from tumbler.rollout.runner import EpisodeParts, LocalEpisodeRunner, NamedEnvironment
from tumbler.testing import CharacterTokenizer, ScriptedInference
from tumbler.trajectory import Trajectory
from tumbler_agents.context.memory_files import MemoryFiles, MemoryFilesSettings
from tumbler_agents.context.truncate_output import TruncateOutput, TruncateOutputSettings
from tumbler_agents.context.window import Window, WindowSettings
from tumbler_agents.iflow.agent import IflowAgent
from tumbler_agents.iflow.settings import IflowSettings
from tumbler_agents.react.agent import ReactAgent
from tumbler_agents.react.settings import ReactSettings
from tumbler_backends.inference.transformers.tokenizer import HuggingFaceTokenizer

WORDS = (
    *CONTROL,
    *("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>", "<tools>"),
    *('{"name": "read", "arguments": {}}', "done", "\n$ ls", "\n@fail {}", "\x03", "[INST]", "</s>", "<s>"),
    *("SESSION_END", "SESSION_START", "data: [DONE]", "\r\n\r\n", "event: stop", "EOF", "\x04", "\x00", "```"),
    *("assistant\n", "user\n", "system\n", "words0q1z", "words1q0z", "bridge-answer", "question"),
)
texts = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=6)), max_size=8).map("".join)
relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, HuggingFaceTokenizer]:
    root: Path = tmp_path_factory.mktemp("tokenizers")
    return {name: HuggingFaceTokenizer(make_tokenizer(root / name, text)) for name, text in TEMPLATES.items()}


def control_ids(tokenizer: HuggingFaceTokenizer, ids: Sequence[int]) -> list[int]:
    known = {token for word in CONTROL for token in tokenizer.encode(word)}
    assert len(known) == len(CONTROL)
    return [token for token in ids if token in known]


def conversation(*contents: str) -> list[Message]:
    roles = ("system", "user", "assistant", "user")
    return [Message(role=role, content=text) for role, text in zip(roles, contents, strict=True)]  # type: ignore[arg-type]


@relaxed
@given(template=st.sampled_from(sorted(TEMPLATES)), contents=st.tuples(texts, texts, texts, texts))
def test_a_prompt_has_the_control_tokens_of_its_template_and_no_others(
    template: str, contents: tuple[str, ...], tokenizers: dict[str, HuggingFaceTokenizer]
) -> None:
    tokenizer = tokenizers[template]
    renderer = Renderer(tokenizer)
    plain = renderer.prompt(conversation("a", "b", "c", "d"))
    ids = renderer.prompt(conversation(*contents))
    assert control_ids(tokenizer, ids) == control_ids(tokenizer, plain)
    for text in (contents[0], contents[1], contents[3]):
        assert text.strip() in tokenizer.decode(ids), "the words are not those of the message"
    tail = renderer.tail(conversation(*contents)[3:], last_token=tokenizer.end_of_turn)
    assert tail is not None
    expected = renderer.tail([Message(role="user", content="d")], last_token=tokenizer.end_of_turn)
    assert control_ids(tokenizer, tail) == control_ids(tokenizer, expected or [])


class Saying(Library):
    """Says one text everywhere: as the task, first, and as the output of each tool."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    async def reset(self, task: Task, *, seed: int, sandbox: object) -> Observation:
        return Observation(text=self._text)

    async def step(self, call: ToolCall) -> StepResult:
        return StepResult(observation=self._text)


class Counting(ScriptedInference):
    """Replies by the number of the call alone, so that nothing but the flow can change what is said."""

    def __init__(self, replies: Sequence[str]) -> None:
        super().__init__(lambda _: self._next(), CharacterTokenizer(60_000))
        self._replies = list(replies)

    def _next(self) -> str:
        return self._replies.pop(0)


def hermes(*names: str) -> str:
    calls = tuple(ChatCall(id="0", name=name, arguments={"size": 1}) for name in names)
    return HERMES.write(ChatMessage(role="assistant", content="so", calls=calls)).content


REACT: tuple[Agent, Sequence[str]] = ReactAgent(ReactSettings()), ["@read {}", "@fail {}", "$ ls", "@read {}", "done"]
IFLOW: tuple[Agent, Sequence[str]] = (
    IflowAgent(IflowSettings()),
    [hermes("read"), hermes("read", "fail"), hermes("fail"), "finished"],
)


async def run(
    agent: Agent, replies: Sequence[str], text: str, strategies: Sequence[ContextStrategy]
) -> tuple[Trajectory, Sequence[GenerateRequest]]:
    inference = Counting(replies)
    parts = EpisodeParts(
        environments={"saying": NamedEnvironment(build=lambda: Saying(text), component=COMPONENT)},
        agent=agent,
        agent_component=COMPONENT,
        strategies=[NamedStrategy(name=f"{number}", strategy=each) for number, each in enumerate(strategies)],
        strategy_components=tuple(COMPONENT for _ in strategies),
        tokenizer=inference.tokenizer,
        inference=inference,
        sandboxes=None,
        limits=Limits(turns=8),
    )
    task = Task(id="t", instruction=f"Go. {text}")
    sampling = Sampling(max_tokens=400)
    request = RolloutRequest(id="r", task=task, seed=0, env_seed=0, group="g", sampling=sampling, env="saying")
    return await LocalEpisodeRunner(parts)(request), inference.requests


def flow(trajectory: Trajectory) -> object:
    """Return the course of an episode: all but what was said by others than the policy."""
    return (
        (trajectory.status, trajectory.status_reason, trajectory.success),
        [(segment.cause, segment.agent_id) for segment in trajectory.segments],
        [(c.text, c.tool_calls, c.errored, c.trainable, c.finish_reason) for c in trajectory.chunks],
    )


def strategies(folder: Path) -> list[ContextStrategy]:
    return [
        TruncateOutput(TruncateOutputSettings(max_tokens=5000)),
        Window(WindowSettings()),
        MemoryFiles(MemoryFilesSettings(folder=folder)),
    ]


@relaxed
@given(text=texts)
@pytest.mark.parametrize("scaffold", [REACT, IFLOW], ids=["react", "iflow"])
async def test_an_episode_goes_on_as_it_would_with_any_other_words(
    scaffold: tuple[Agent, Sequence[str]], text: str, tmp_path: Path
) -> None:
    agent, replies = scaffold
    (tmp_path / "AGENTS.md").write_text("plain")
    plain, plainly = await run(agent, replies, "plain", strategies(tmp_path))
    assert plain.status == "completed", plain.status_reason
    (tmp_path / "AGENTS.md").write_text(f"a {text} b", "utf-8", "replace", newline="")
    trajectory, requests = await run(agent, replies, text, strategies(tmp_path))
    assert flow(trajectory) == flow(plain)
    assert list(map(ends, requests)) == list(map(ends, plainly)), "a turn was ended, or begun, by words"


def ends(request: GenerateRequest) -> int:
    """Return how many turns end in a prompt."""
    return request.token_ids.count(CharacterTokenizer.end_of_turn)
