"""The scaffold of the benchmark: calls side by side, answers that come late, helpers with conversations of their own.

It knows no strategy and no task; all that it shows goes through the episode's context pipeline.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from experiments.context.world import HELPER

from tumbler.contracts.agent import Episode, Outcome
from tumbler.contracts.chat import ChatCall, ChatMessage
from tumbler.contracts.environment import StepResult
from tumbler.contracts.values import Message, ToolCall, ToolSpec
from tumbler.dialects import dialect
from tumbler.errors import ContextOverflowError

__all__ = ["Scaffold"]

_PROMPT: Final = "You are an agent that acts with tools."
_HELPER_PROMPT: Final = "You are a helper. Find out what you are asked and say it in one sentence."
_HELPER_TURNS: Final = 4
_DIALECT: Final = dialect("hermes")


@dataclass(frozen=True, kw_only=True)
class _Late:
    """An answer that is not here yet."""

    turn: int
    call: ChatCall
    text: str


class Scaffold:
    """Carries out the calls of each reply in order; an answer that is late is shown when its turn has come."""

    def __init__(self, *, private: Sequence[str] = ()) -> None:
        """Keep the tools `private` from all but helpers."""
        self._private = frozenset(private)

    async def run(self, episode: Episode) -> Outcome:
        """Drive the episode until the task ends, the policy stops calling, or a limit strikes."""
        self._open(episode)
        late: list[_Late] = []
        for turn in range(episode.limits.turns):
            late = _deliver(episode, late, turn)
            try:
                reply = await episode.model.generate(await episode.context.messages())
            except ContextOverflowError:
                return Outcome(reason="context_overflow")
            calls = _DIALECT.read(reply.text, call_prefix=f"{turn}-").calls
            message = Message(role="assistant", content=reply.text)
            episode.context.append(message, sampled=True, calls=[each.id for each in calls])
            if not calls:
                return Outcome(reason="finished")
            said: list[str] = []
            for call in calls:
                result = await self._carry_out(episode, call, reply.chunk, turn)
                if result.terminated:
                    return Outcome(reason="terminated")
                after = int(str(result.info.get("after", 0)))
                if after:
                    late.append(_Late(turn=turn + after, call=call, text=result.observation))
                else:
                    _answer(episode, call, result.observation)
                said.append(str(result.info.get("user", "")))
            for text in filter(None, said):
                episode.context.append(Message(role="user", content=text))
        return Outcome(reason="turn_limit")

    def _open(self, episode: Episode) -> None:
        shown = [spec for spec in episode.tools.specs if spec.name not in self._private]
        episode.context.append(Message(role="system", content=_DIALECT.system(_PROMPT, shown)), pinned=True)
        task = f"{episode.task.instruction}\n\n{episode.observation.text}"
        episode.context.append(Message(role="user", content=task), pinned=True)

    async def _carry_out(self, episode: Episode, call: ChatCall, chunk: int, turn: int) -> StepResult:
        if call.problem is not None:
            episode.tools.reject(chunk=chunk, reason=call.problem)
            return StepResult(observation=f"error: {call.problem}", errored=True)
        arguments = dict(call.arguments)
        if call.name == HELPER:
            arguments["answer"] = await self._ask_helper(episode, str(arguments.get("subject")), f"helper-{turn}")
        return await episode.tools.call(ToolCall(name=call.name, arguments=arguments), chunk=chunk)

    async def _ask_helper(self, episode: Episode, subject: str, agent_id: str) -> str:
        """Let a sub-agent find something out; only its last words come back."""
        tools: list[ToolSpec] = [spec for spec in episode.tools.specs if spec.name in self._private]
        messages = [
            Message(role="system", content=_DIALECT.system(_HELPER_PROMPT, tools)),
            Message(role="user", content=f"What does the card {subject} say of {subject}?"),
        ]
        for turn in range(_HELPER_TURNS):
            reply = await episode.model.generate(messages, agent_id=agent_id)
            calls = _DIALECT.read(reply.text, call_prefix=f"{agent_id}-{turn}-").calls
            messages.append(Message(role="assistant", content=reply.text))
            if not calls:
                return reply.text
            for call in calls:
                asked = ToolCall(name=call.name, arguments=call.arguments)
                result = await episode.tools.call(asked, chunk=reply.chunk)
                messages.append(_DIALECT.write(ChatMessage(role="tool", content=result.observation)))
        return "I could not find out."


def _deliver(episode: Episode, late: Sequence[_Late], turn: int) -> list[_Late]:
    """Show the answers whose turn has come; return the others."""
    for each in late:
        if each.turn <= turn:
            _answer(episode, each.call, each.text)
    return [each for each in late if each.turn > turn]


def _answer(episode: Episode, call: ChatCall, text: str) -> None:
    message = _DIALECT.write(ChatMessage(role="tool", content=text, call_id=call.id, name=call.name))
    episode.context.append(message, answers=call.id)
