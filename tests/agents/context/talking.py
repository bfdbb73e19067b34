"""Conversations over the core's own pipeline, with a policy that answers strategies as a test has it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tumbler.contracts.agent import Reply
from tumbler.contracts.context import ContextStrategy, LogEntry, StrategyAnswer, View
from tumbler.contracts.inference import FinishReason
from tumbler.contracts.values import JSON, Message, ToolCall
from tumbler.errors import ContextOverflowError
from tumbler.rollout.context import NamedStrategy, StrategyPipeline
from tumbler.testing import CharacterTokenizer, sample_task

ROOM = 100
SYSTEM, TASK = "Be brief.", "Count the files."


@dataclass
class Summaries:
    """The policy as strategies ask it: `say` gets the prompt; each call is kept."""

    say: Callable[[str], str] = lambda _prompt: "SUMMARY"
    prompt_limit: int = 10**9
    finish_reason: FinishReason = "stop"
    prompts: list[str] = field(default_factory=list)
    trainable: list[bool] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)

    async def __call__(
        self, messages: Sequence[Message], *, agent_id: str, max_tokens: int | None, trainable: bool
    ) -> Reply:
        prompt = CharacterTokenizer().render(messages, add_generation_prompt=True)
        if len(prompt) > self.prompt_limit:
            raise ContextOverflowError("the prompt is too long")
        self.prompts.append(prompt)
        self.trainable.append(trainable)
        self.agents.append(agent_id)
        text = self.say(prompt)
        cut = text if max_tokens is None else text[:max_tokens]
        reason = self.finish_reason if cut == text else "length"
        return Reply(text=cut, finish_reason=reason, chunk=len(self.prompts))


class Talk:
    """One conversation. Tokens are characters."""

    def __init__(
        self, *strategies: ContextStrategy, context: int = 2000, model: Summaries | None = None, opened: bool = True
    ) -> None:
        self.model = model or Summaries(prompt_limit=context - ROOM)
        self.refused: list[int] = []
        self.log = StrategyPipeline(
            [NamedStrategy(name=type(each).__name__, strategy=each) for each in strategies],
            CharacterTokenizer(context),
            room=ROOM,
            task=sample_task(),
            seed=0,
            model=self.model,
            on_refused_call=self.refused.append,
        )
        self._calls = 0
        if opened:
            self.log.append(Message(role="system", content=SYSTEM), pinned=True)
            self.log.append(Message(role="user", content=TASK), pinned=True)

    async def prompt(self) -> list[str]:
        """Return the contents that the model is to see."""
        return [message.content for message in await self.log.messages()]

    def reply(self, text: str, calls: int = 1) -> list[str]:
        """Add a reply of the policy that makes calls; return their ids."""
        ids = [f"call{self._calls + index}" for index in range(calls)]
        self._calls += calls
        self.log.append(Message(role="assistant", content=text), sampled=True, calls=ids)
        return ids

    def answer(self, call: str, text: str) -> int:
        return self.log.append(Message(role="user", content=text), answers=call)

    def say(self, text: str) -> int:
        """Let the user say something in between."""
        return self.log.append(Message(role="user", content=text))

    def turn(self, text: str, *outputs: str) -> None:
        for call, output in zip(self.reply(text, len(outputs)), outputs, strict=True):
            self.answer(call, output)

    async def turns(self, count: int, size: int = 100, start: int = 0) -> list[list[str]]:
        """Ask for a prompt and take a turn, so many times; return the prompts."""
        prompts = []
        for number in range(start, start + count):
            prompts.append(await self.prompt())
            self.turn(f"step {number}", f"output {number} " + "x" * size)
        return prompts

    async def call(self, name: str, /, **arguments: JSON) -> StrategyAnswer:
        """Let the policy call a strategy's tool in a reply of its own."""
        (answer,) = await self.calls(ToolCall(name=name, arguments=arguments))
        return answer

    async def calls(self, *calls: ToolCall) -> list[StrategyAnswer]:
        """Let the policy make several calls in one reply to a prompt."""
        await self.prompt()
        text = "\n".join(f"@{call.name} {json.dumps(call.arguments)}" for call in calls)
        ids = self.reply(text, len(calls))
        answers = [await self.log.call(call) for call in calls]
        for call_id, answer in zip(ids, answers, strict=True):
            self.answer(call_id, answer.text)
        return answers

    @property
    def state(self) -> dict[str, JSON]:
        """Return the first strategy's state."""
        return dict(next(iter(self.log.snapshot().values())))  # type: ignore[call-overload, arg-type]  # an object

    @property
    def checks(self) -> list[str]:
        """Return which checks have refused plans."""
        return [refusal.check for refusal in self.log.refusals]


def entry(number: int, content: str, *, role: str = "user", tokens: int | None = None, **more: object) -> LogEntry:
    """Return an entry whose tokens are its characters."""
    message = Message(role=role, content=content)  # type: ignore[arg-type]  # a role
    size = len(content) if tokens is None else tokens
    return LogEntry(id=number, message=message, tokens=size, **more)  # type: ignore[arg-type]


def view(*entries: LogEntry) -> View:
    return View(entries=entries)
