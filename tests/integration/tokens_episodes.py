"""Generated episodes with all that can go wrong with tokens, and the proof that their records are exact.

A policy whose replies are drawn from seeds talks through the real runner: several calls in a reply, thinking,
unicode, replies that are cut off or aborted, ids that no text gives again, new weights in between. An agent asks
beside the plain turn: twice at once, at another temperature, untrained, in vain; and it has sub-agents.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from tumbler.contracts.agent import Episode, Limits, Outcome, Reply
from tumbler.contracts.chat import ChatCall, ChatMessage
from tumbler.contracts.context import ContextStrategy, StrategyWithTools
from tumbler.contracts.environment import EnvironmentCapabilities, Observation, StepResult, Task, Verdict
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.inference import GenerateRequest, Generation, Sampling, TextTokenizer
from tumbler.contracts.values import JSON, Message, ToolCall, ToolSpec
from tumbler.dialects import dialect
from tumbler.dialects.thinking import split_thinking
from tumbler.errors import ContextOverflowError
from tumbler.rollout.context import NamedStrategy
from tumbler.rollout.runner import EpisodeParts, LocalEpisodeRunner, NamedEnvironment
from tumbler.testing import CharacterTokenizer, ScriptedInference, sample_task
from tumbler.trajectory import Anchor, Chunk, Component, Trajectory, verify_trajectory

HERMES = dialect("hermes")
COMPONENT = Component(id="test", version="0", settings_hash="0")
ROOM = 240
_ODD = 0x110000
"""Ids from here on stand for the same characters again."""
_STRANGE = ("βήτα", "数据", "naïve", "🦊🚀", "tab\there", "e\u0301", "  two", "nul\x00l", "Ω≠√", "\u202ebidi")
_WORDS = ("alpha", "line", *_STRANGE)


class OddCharacters(CharacterTokenizer):
    """Each character has two ids, of which `encode` gives the first: what is sampled is not what text gives again."""

    def decode(self, token_ids: Sequence[int]) -> str:
        return super().decode([token % _ODD for token in token_ids])

    def odd(self, text: str, random: Random) -> list[int]:
        """Return ids of the text, some of them the second ones."""
        return [token + _ODD if random.random() < 0.2 else token for token in self.encode(text)]


Odd = Callable[[str, Random], list[int]]
Settings = Mapping[str, JSON]


@dataclass(frozen=True)
class Answered:
    """A request, and what the engine returned."""

    request: GenerateRequest
    generation: Generation


class Sampler(ScriptedInference):
    """Draws replies from the requests' seeds and keeps each that was really returned."""

    def __init__(self, tokenizer: TextTokenizer, odd: Odd, tools: Sequence[str], *, aborts: float = 0.03) -> None:
        super().__init__(lambda _: "", tokenizer)
        self.answered: list[Answered] = []
        self._odd, self._tools, self._aborts = odd, tools, aborts

    async def generate(self, request: GenerateRequest) -> Generation:
        random = Random(request.seed)
        for _ in range(random.randrange(3)):
            await asyncio.sleep(0)
        if random.random() < 0.1:
            self.version += 1
        brief = request.sampling.max_tokens < ROOM
        text = _brief(random) if brief else self._reply(random)
        ids, reason = [*self._odd(text, random), self._tokenizer.end_of_turn], "stop"
        if random.random() < self._aborts:
            ids, reason = ids[: 1 + random.randrange(len(ids))], "abort"
        elif len(ids) > request.sampling.max_tokens:
            ids, reason = ids[: request.sampling.max_tokens], "length"
        generation = Generation(
            token_ids=tuple(ids),
            logprobs=tuple(-random.random() for _ in ids),
            finish_reason=reason,  # type: ignore[arg-type]  # one of the three
            policy_version=self.version,
        )
        self.answered.append(Answered(request, generation))
        return generation

    def _reply(self, random: Random) -> str:
        thinking = words(random, 6) if random.random() < 0.4 else ""
        if thinking and random.random() < 0.2:
            return f"<think>\n{thinking} and on"
        calls = [self._call(random) for _ in range(random.choice((0, 1, 1, 1, 2, 3)))]
        message = ChatMessage(role="assistant", content=words(random, 5), thinking=thinking, calls=tuple(calls))
        text = HERMES.write(message).content
        return text + "\n<tool_call>\n{broken" if random.random() < 0.05 else text

    def _call(self, random: Random) -> ChatCall:
        name = random.choice((*("read",) * 4, "fail", *self._tools))
        text = f"{words(random, 3)} {random.randrange(10**6)}"
        arguments: dict[str, JSON] = {
            "read": {"size": random.choice((0, 10, 60, 120, 700))},
            "todo_write": {"items": [{"text": text, "status": "pending"}]},
            "note_write": {"name": f"n{random.randrange(3)}", "text": text},
            "note_read": {"name": f"n{random.randrange(3)}"},
            "save_memory": {"fact": text},
            "branch": {"task": text},
            "return_result": {"text": text},
            "compact": {"reason": text},
            "read_output": {"name": f"output-{random.randrange(20)}.txt"},
        }.get(name, {})  # type: ignore[assignment]  # JSON objects
        return ChatCall(id="0", name=name, arguments=arguments)


def words(random: Random, most: int) -> str:
    return " ".join(random.choice(_WORDS) for _ in range(1 + random.randrange(most)))


def _brief(random: Random) -> str:
    """What is said to a strategy that asks for a summary: now and then nothing, too much, or a thought before it."""
    said = f"so far {random.randrange(10**9)} {words(random, 4)}"
    return random.choice((said, said, said, f"<think>\nhm\n</think>\n\n{said}", f"{said} {said * 20}", ""))


class Library:
    """An environment with long outputs, errors, and an end that the episode's limit brings."""

    def __init__(self) -> None:
        self._count = 0
        self._seed = 0

    @property
    def capabilities(self) -> EnvironmentCapabilities:
        return EnvironmentCapabilities()

    async def tasks(self, split: str, *, count: int, seed: int) -> Sequence[Task]:
        return [sample_task(index, split) for index in range(count)]

    def tools(self) -> Sequence[ToolSpec]:
        return [ToolSpec(name="read", description="Reads."), ToolSpec(name="fail", description="Fails.")]

    def sandbox_spec(self, task: Task) -> None:
        return None

    async def reset(self, task: Task, *, seed: int, sandbox: object) -> Observation:
        self._seed = seed
        return Observation(text="You are in a library.")

    async def step(self, call: ToolCall) -> StepResult:
        self._count += 1
        random = Random(f"{self._seed}/{self._count}")
        size = call.arguments.get("size", 10)
        if call.name == "fail" or not isinstance(size, int):
            return StepResult(observation=f"error: {words(random, 3)}", errored=True)
        text = ""
        while len(text) < size:
            text += words(random, 8) + "\n"
        return StepResult(observation=text, reward=0.1)

    async def verify(self) -> Verdict:
        return Verdict(reward=1.0, success=True)

    async def close(self) -> None: ...


BESIDE = ("twice", "cool", "untrained", "in vain", "crew")


@dataclass
class Curious:
    """An agent that does all that a scaffold may do; `untrained` are the chunks that it asked to keep out."""

    random: Random
    beside: Sequence[str] = ()
    """What it asks for beside the plain turn."""
    untrained: set[int] = field(default_factory=set)
    _calls: int = 0

    async def run(self, episode: Episode) -> Outcome:
        system = HERMES.system("Be brief.", episode.tools.specs)
        episode.context.append(Message(role="system", content=system), pinned=True)
        opening = f"{episode.task.instruction}\n{episode.observation.text}"
        episode.context.append(Message(role="user", content=opening), pinned=True)
        for _turn in range(episode.limits.turns):
            try:
                await self._turn(episode)
            except ContextOverflowError:
                return Outcome(reason="context_overflow")
        return Outcome(reason="turn_limit")

    async def _turn(self, episode: Episode) -> None:
        messages = await episode.context.messages()
        reply = await self._ask(episode, messages)
        self._calls += 1
        said = HERMES.read(reply.text, call_prefix=f"c{self._calls}-")
        ids = [call.id for call in said.calls]
        episode.context.append(Message(role="assistant", content=reply.text), sampled=True, calls=ids)
        results = [await self._answer(episode, call, reply.chunk) for call in said.calls]
        for call, text in zip(said.calls, results, strict=True):
            answer = HERMES.write(ChatMessage(role="tool", content=text, call_id=call.id))
            episode.context.append(answer, answers=call.id)
        if not said.calls or self.random.random() < 0.1:
            episode.context.append(Message(role="user", content=f"go on, {words(self.random, 4)}"))

    async def _ask(self, episode: Episode, messages: Sequence[Message]) -> Reply:
        beside = self.random.choice((*("plain",) * 6, *self.beside))
        model = episode.model
        if beside == "twice":
            both = await asyncio.gather(model.generate(messages), model.generate(messages))
            return self.random.choice(both)
        if beside == "cool":
            await self._untrained(model.generate(messages, temperature=0.3))
        elif beside == "untrained":
            await self._untrained(model.generate(messages, trainable=False))
        elif beside == "in vain":
            asked = asyncio.ensure_future(model.generate(messages))
            await asyncio.sleep(0)
            asked.cancel()
            await asyncio.wait([asked])
        elif beside == "crew":
            await asyncio.gather(*(self._help(episode, f"helper-{index}") for index in range(2)))
        return await model.generate(messages)

    async def _untrained(self, asked: object) -> None:
        self.untrained.add((await asked).chunk)  # type: ignore[misc]  # a coroutine of a reply

    async def _help(self, episode: Episode, agent_id: str) -> None:
        """Talk for two turns; an earlier conversation of the helper is taken up, or begins otherwise."""
        talk = [Message(role="user", content=self.random.choice(("Look it up.", "Find out.")))]
        for _turn in range(2):
            reply = await episode.model.generate(talk, agent_id=agent_id)
            talk += [Message(role="assistant", content=reply.text), Message(role="user", content="and more?")]

    async def _answer(self, episode: Episode, call: ChatCall, chunk: int) -> str:
        known = {spec.name for spec in episode.tools.specs}
        if call.problem is not None or call.name not in known:
            episode.tools.reject(chunk=chunk, reason=str(call.problem))
            return f"error: {call.problem}"
        result = await episode.tools.call(ToolCall(name=call.name, arguments=call.arguments), chunk=chunk)
        return result.observation


@dataclass(frozen=True, kw_only=True)
class Played:
    """An episode, what its engine returned, and what its agent wanted untrained."""

    trajectory: Trajectory
    answered: Sequence[Answered]
    untrained: set[int]
    tokenizer: TextTokenizer


async def play(
    strategies: Sequence[ContextStrategy],
    seed: int,
    *,
    tokenizer: TextTokenizer | None = None,
    odd: Odd | None = None,
    turns: int = 10,
    beside: Sequence[str] = BESIDE,
    anchor: Anchor | None = None,
) -> Played:
    """Run one generated episode through the real runner; one with an anchor draws other replies behind it."""
    characters = OddCharacters(3000)
    tokenizer, odd = tokenizer or characters, odd or characters.odd
    tools = [spec.name for each in strategies if isinstance(each, StrategyWithTools) for spec in each.tools()]
    inference = Sampler(tokenizer, odd, tools)
    agent = Curious(random=Random(f"agent/{seed}"), beside=beside)
    parts = EpisodeParts(
        environments={"library": NamedEnvironment(build=Library, component=COMPONENT)},
        agent=agent,
        agent_component=COMPONENT,
        strategies=[NamedStrategy(name=f"{number}", strategy=each) for number, each in enumerate(strategies)],
        strategy_components=tuple(COMPONENT for _ in strategies),
        tokenizer=tokenizer,
        inference=inference,
        sandboxes=None,
        limits=Limits(turns=turns, seconds=60),
    )
    request = RolloutRequest(
        id=f"episode-{seed}",
        task=sample_task(seed),
        seed=seed if anchor is None else seed + 10**6,
        anchor=anchor,
        env_seed=seed,
        group="g",
        sampling=Sampling(max_tokens=ROOM, temperature=0.9),
        env="library",
    )
    trajectory = await LocalEpisodeRunner(parts)(request)
    return Played(
        trajectory=trajectory, answered=inference.answered, untrained=agent.untrained, tokenizer=inference.tokenizer
    )


def require_exact(played: Played) -> None:
    """Fail unless the record holds what the engine was given and returned, each token once, and nothing else."""
    trajectory = played.trajectory
    assert trajectory.status in ("completed", "truncated"), trajectory.status_reason
    verify_trajectory(trajectory)
    assert Counter(_recorded(trajectory)) == Counter(_returned(played.answered))
    places = [(c.segment, place) for c in trajectory.chunks for place in range(c.start, c.end)]
    assert len(places) == len(set(places)) == sum(len(each.generation.token_ids) for each in played.answered)
    expected = {index for index, chunk in enumerate(trajectory.chunks) if _is_trained(played, index, chunk)}
    assert {index for index, chunk in enumerate(trajectory.chunks) if chunk.trainable} == expected


_Exchange = tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...], int | None, str]


def _recorded(trajectory: Trajectory) -> Iterator[_Exchange]:
    for chunk in trajectory.chunks:
        ids = trajectory.segments[chunk.segment].token_ids
        yield (
            ids[: chunk.start],
            ids[chunk.start : chunk.end],
            chunk.behaviour_logprobs,
            chunk.policy_version,
            chunk.finish_reason,
        )


def _returned(answered: Sequence[Answered]) -> Iterator[_Exchange]:
    for each in answered:
        given, told = each.request, each.generation
        yield given.token_ids, told.token_ids, told.logprobs, told.policy_version, told.finish_reason


def _is_trained(played: Played, index: int, chunk: Chunk) -> bool:
    if chunk.finish_reason == "abort" or index in played.untrained:
        return False
    return not _asked_by_strategy(played.trajectory, chunk) or _is_used(played, index)


def _asked_by_strategy(trajectory: Trajectory, chunk: Chunk) -> bool:
    return "/" in trajectory.segments[chunk.segment].agent_id


def _is_used(played: Played, index: int) -> bool:
    """Return whether what was said to a strategy stands in a later prompt of the agent, or led to what does."""
    trajectory = played.trajectory
    _, said, _ = split_thinking(trajectory.chunks[index].text)
    if not said.strip():
        return False
    for later in range(index + 1, len(trajectory.chunks)):
        chunk = trajectory.chunks[later]
        prompt = played.tokenizer.decode(trajectory.segments[chunk.segment].token_ids[: chunk.start])
        if said.strip() in prompt and (not _asked_by_strategy(trajectory, chunk) or _is_used(played, later)):
            return True
    return False
