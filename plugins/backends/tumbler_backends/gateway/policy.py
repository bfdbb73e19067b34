"""A session that the recorded policy answers; knows no API and no server."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tumbler.contracts.agent import Reply
from tumbler.contracts.chat import ChatCall, ChatMessage, ChatReply, Dialect, OnText, Sampled, StopReason, Usage
from tumbler.contracts.gateway import GatewaySession
from tumbler.dialects.thinking import split_thinking
from tumbler.errors import ContractError
from tumbler.rollout.rendering import render
from tumbler_backends.gateway.answering import Call
from tumbler_backends.gateway.history import History, Prompt
from tumbler_backends.gateway.notes import Notes
from tumbler_backends.gateway.wire.format import BadRequest, GatewayRequest
from tumbler_backends.gateway.wire.replies import shown

__all__ = ["PolicyAnswerer"]

_AT_ONCE: Final = 20_000
"""Characters whose tokens are counted in one go, before others have their turn. No thread counts them: prompts are made
with the same tokenizer, which may hold settings of the text that it is at."""

_LEAST_TEMPERATURE: Final = 0.01
"""A lower one is greedy. What is divided by next to nothing is no longer finite, and a failure of the engine would be a
client's way out of an episode that goes badly."""


class PolicyAnswerer:
    """Puts requests to the policy as flat text, and reads its text as structured replies.

    Stop sequences are not known to the engine: the reply is cut at the first of them before it is read. The recorded
    chunk keeps all that was sampled, and a client's history that echoes the cut reply has drifted from it.
    `tool_choice` "none" keeps the tools in the prompt, so that the conversation goes on in its segment, and gives
    calls back as plain content. "required" samples like "auto": nothing forces a policy to call.
    """

    def __init__(
        self, session: GatewaySession, dialect: Dialect, *, client_temperature: bool, tell_tokens: bool = False
    ) -> None:
        """Answer with the session's model; `tell_tokens` with each reply, also where no request asks for them."""
        self._session = session
        self._dialect = dialect
        self._client_temperature = client_temperature
        self._tell_tokens = tell_tokens
        self._history = History(dialect)
        self._notes = Notes(session.tools)
        self._counting = asyncio.Lock()

    async def answer(self, call: Call, on_text: OnText) -> ChatReply:
        """Sample a reply; the engine gives it as a whole, so that `on_text` is told nothing."""
        request = call.request
        prompt = self._prompt(request)
        agent = self._history.agent(prompt)
        self._notes.brought(self._history.answers(prompt))
        reply = await self._session.model.generate(
            prompt.messages,
            agent_id=agent,
            max_tokens=min(request.max_tokens or self._session.max_tokens, self._session.max_tokens),
            temperature=_temperature(request) if self._client_temperature else None,
            cause=prompt.cause,
        )
        text, sequence = _cut(reply.text, request.stop)
        calls, read = self._read(text, call)
        self._notes.called(calls, chunk=reply.chunk)
        answer = ChatReply(
            message=read,
            stop=_stop(reply, read, cut=text != reply.text),
            text=reply.text,
            usage=Usage(prompt=reply.prompt_tokens, completion=reply.tokens, cached=reply.cached_tokens),
            chunk=reply.chunk,
            sampled=self._sampled(reply) if request.logprobs or self._tell_tokens else None,
            stop_sequence=sequence,
        )
        self._history.remember(prompt, answer, agent=agent, whole=text == reply.text)
        return answer

    @property
    def context_length(self) -> int:
        """Return the tokenizer's."""
        return self._session.tokenizer.context_length

    async def count(self, request: GatewayRequest) -> int:
        """Return the length of the prompt; of a long one it may be off by a token or two for each of its parts."""
        tokenizer = self._session.tokenizer
        async with self._counting:
            text = render(tokenizer, self._prompt(request).messages, add_generation_prompt=True)
            tokens = 0
            for start in range(0, len(text), _AT_ONCE):
                tokens += len(tokenizer.encode(text[start : start + _AT_ONCE]))
                await asyncio.sleep(0)
        return tokens

    def _sampled(self, reply: Reply) -> Sampled | None:
        if len(reply.logprobs) != len(reply.token_ids):  # another than the policy spoke
            return None
        pieces = tuple(self._session.tokenizer.decode([token]) for token in reply.token_ids)
        return Sampled(prompt_ids=reply.prompt_ids, ids=reply.token_ids, logprobs=reply.logprobs, pieces=pieces)

    def _prompt(self, request: GatewayRequest) -> Prompt:
        try:
            return self._history.prompt(request.messages, request.tools)
        except ContractError as error:
            raise BadRequest(f"the conversation cannot be written for the policy: {error}", "messages") from error

    def _read(self, text: str, call: Call) -> tuple[Sequence[ChatCall], ChatMessage]:
        """Return the calls, and the reply as the client gets it, so that its echo can be told from other words."""
        read = self._dialect.read(text, call_prefix=f"call_{call.number}_")
        if call.request.tool_choice != "none" or not read.calls:
            return read.calls, shown(read)
        thinking, rest, _ = split_thinking(text)
        return (), replace(read, content=rest, thinking=thinking, calls=())


def _temperature(request: GatewayRequest) -> float | None:
    asked = request.temperature
    return asked if asked is None or asked >= _LEAST_TEMPERATURE else 0.0


def _cut(text: str, stop: tuple[str, ...]) -> tuple[str, str | None]:
    """Return the text up to the first stop sequence, and that one."""
    found = [(place, sequence) for sequence in stop if sequence and (place := text.find(sequence)) >= 0]
    if not found:
        return text, None
    place, sequence = min(found)
    return text[:place], sequence


def _stop(reply: Reply, read: ChatMessage, *, cut: bool) -> StopReason:
    if reply.finish_reason == "abort":
        return "abort"
    if reply.finish_reason == "length" and not cut:
        return "length"
    return "calls" if read.calls else "stop"
