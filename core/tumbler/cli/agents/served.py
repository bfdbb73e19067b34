"""A served model as the mind of a conversation: lengths are estimated, and corrected by what the server reports."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from tumbler.cli.agents.estimating import EstimatedTokenizer
from tumbler.cli.agents.minds import CONVERSATION, Beginning, Thought, room_for_reply
from tumbler.contracts.agent import Reply
from tumbler.contracts.chat import ChatMessage, ChatModel, ChatReply, OnText, StopReason
from tumbler.contracts.environment import StepResult
from tumbler.contracts.inference import FinishReason
from tumbler.contracts.values import Message, ToolCall, ToolSpec
from tumbler.rollout.context import StrategyPipeline
from tumbler.rollout.context.files import SandboxFiles

__all__ = ["ServedMind", "StrategyTools"]

_FINISHES: Final[dict[StopReason, FinishReason]] = {
    "stop": "stop",
    "calls": "stop",
    "length": "length",
    "abort": "abort",
}


@runtime_checkable
class _Closing(Protocol):
    async def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class ServedMind:
    """A model behind an API. Its tokenizer is not known here."""

    model: ChatModel
    name: str
    window_source: str
    key_variable: str | None
    """Which variable holds the key; None where none is sent."""
    max_tokens: int | None = None
    """Tokens of a reply, at most; None leaves it to the server."""
    temperature: float | None = None
    """None leaves it to the server."""

    @property
    def window(self) -> int:
        """Return what the model's settings say."""
        return self.model.context_length

    def begin(self, beginning: Beginning) -> Thought:
        """Begin a conversation; nothing of it is recorded but what the agent saves."""
        tokenizer = EstimatedTokenizer(self.window)
        model = _MeasuredModel(self.model, tokenizer, max_tokens=self.max_tokens, temperature=self.temperature)
        context = StrategyPipeline(
            beginning.strategies,
            tokenizer,
            room=room_for_reply(self.window, self.max_tokens),
            task=CONVERSATION,
            seed=beginning.seed,
            model=model.ask,
            files=None if beginning.sandbox is None else SandboxFiles(beginning.sandbox),
        )
        return Thought(model=model, context=context, tools=StrategyTools(context), keep=_keep_nothing)

    def advice(self, problem: str) -> str:
        """Return what to look at."""
        if " answered 401" in problem or " answered 403" in problem:
            held = f"the key is from ${self.key_variable}" if self.key_variable else "no key was sent"
            return f"{held}; --api-key-env NAME names the variable that holds it"
        if " answered 404" in problem:
            return "look at the address (--upstream, which often ends in /v1) and the model's name (--model)"
        if "cannot be reached" in problem or "is no address" in problem:
            return "is the server running, and is --upstream its address?"
        return ""

    async def close(self) -> None:
        """Close the model's connections."""
        if isinstance(self.model, _Closing):
            await self.model.close()


class StrategyTools:
    """The context strategies' own tools; of other calls nothing is recorded."""

    def __init__(self, context: StrategyPipeline) -> None:
        """Offer what the strategies offer."""
        self._context = context

    @property
    def specs(self) -> Sequence[ToolSpec]:
        """Return the strategies' tools."""
        return self._context.tools

    async def call(self, call: ToolCall, *, chunk: int) -> StepResult:
        """Let a strategy answer."""
        answer = await self._context.call(call)
        return StepResult(observation=answer.text, errored=answer.errored)

    def reject(self, *, chunk: int, reason: str) -> None:
        """Record nothing."""


class _MeasuredModel:
    """A `ChatModel` whose reports on lengths correct the estimates, and whose calls are counted."""

    def __init__(
        self, model: ChatModel, tokenizer: EstimatedTokenizer, *, max_tokens: int | None, temperature: float | None
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._temperature = temperature
        self._calls = 0

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
        reply = await self._model.chat(
            messages,
            tools,
            max_tokens=self._max_tokens if max_tokens is None else max_tokens,
            temperature=self._temperature if temperature is None else temperature,
            stop=stop,
            on_text=on_text,
        )
        self._tokenizer.learn(estimated=self._model.count(messages, tools), counted=reply.usage.prompt)
        number, self._calls = self._calls, self._calls + 1
        return replace(reply, chunk=number)

    @property
    def context_length(self) -> int:
        return self._model.context_length

    def count(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        return self._model.count(messages, tools)

    async def ask(
        self, messages: Sequence[Message], *, agent_id: str, max_tokens: int | None, trainable: bool
    ) -> Reply:
        """Ask on behalf of a context strategy."""
        asked = [ChatMessage(role=message.role, content=message.content) for message in messages]
        reply = await self.chat(asked, max_tokens=max_tokens)
        return Reply(
            text=reply.message.content,
            finish_reason=_FINISHES[reply.stop],
            chunk=reply.chunk or 0,
            prompt_tokens=reply.usage.prompt,
            tokens=reply.usage.completion,
        )


def _keep_nothing(folder: Path) -> None:
    """Write nothing: a served model's tokens are not known."""
