"""The agent `react`: think, call one tool, read the answer, and again; knows no environment."""

from tumbler.contracts.agent import Episode, Outcome
from tumbler.contracts.environment import ExpertAction
from tumbler.contracts.values import Message
from tumbler.errors import ContextOverflowError
from tumbler_agents.react import protocol
from tumbler_agents.react.settings import ReactSettings

__all__ = ["ReactAgent"]


class ReactAgent:
    """Drives an episode with one tool call a turn. Malformed replies are answered and counted."""

    def __init__(self, settings: ReactSettings) -> None:
        """Keep the settings."""
        self._settings = settings

    def write_action(self, action: ExpertAction | None) -> str:
        """Return the reply that makes this action; None is the reply that ends the episode."""
        return protocol.write(None if action is None else action.call)

    async def run(self, episode: Episode) -> Outcome:
        """Drive the episode until it is done, the environment ends it, or a limit strikes."""
        self._open(episode)
        malformed = 0
        for _turn in range(episode.limits.turns):
            try:
                reply = await episode.model.generate(await episode.context.messages())
            except ContextOverflowError:
                return Outcome(reason="context_overflow", malformed_calls=malformed)
            episode.context.append(Message(role="assistant", content=reply.text), sampled=True)
            call = protocol.parse(reply.text)
            if call is None:
                return Outcome(reason="finished", malformed_calls=malformed)
            if isinstance(call, protocol.Malformed):
                malformed += 1
                episode.tools.reject(chunk=reply.chunk, reason=call.reason)
                if malformed >= episode.limits.malformed:
                    return Outcome(reason="malformed", malformed_calls=malformed)
                self._show(episode, call.reason)
                continue
            result = await episode.tools.call(call, chunk=reply.chunk)
            if result.terminated or result.truncated:
                return Outcome(reason="terminated" if result.terminated else "truncated", malformed_calls=malformed)
            self._show(episode, result.observation, tool=call.name)
        return Outcome(reason="turn_limit", malformed_calls=malformed)

    def _open(self, episode: Episode) -> None:
        system = self._settings.system_prompt
        if system is None:
            system = protocol.describe(episode.tools.specs)
        if system:
            episode.context.append(Message(role="system", content=system), pinned=True)
        task = "\n".join(part for part in (episode.task.instruction, episode.observation.text) if part)
        episode.context.append(Message(role="user", content=task), pinned=True)

    def _show(self, episode: Episode, observation: str, *, tool: str = "") -> None:
        episode.context.append(Message(role=self._settings.observation_role, content=observation), tool=tool)
