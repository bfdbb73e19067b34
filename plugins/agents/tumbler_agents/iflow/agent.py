"""The agent `iflow` in an episode; the loop itself is in `loop`."""

from collections.abc import Mapping
from typing import Final

from tumbler.contracts.agent import Episode, HostingEpisode, Outcome, StopReason
from tumbler.contracts.chat import ChatCall, ChatMessage
from tumbler.contracts.environment import ExpertAction
from tumbler.dialects import dialect
from tumbler_agents.iflow.assembly import Host, assembled
from tumbler_agents.iflow.events import EndReason
from tumbler_agents.iflow.loop import drive
from tumbler_agents.iflow.opening import enter
from tumbler_agents.iflow.settings import IflowSettings
from tumbler_agents.iflow.speaking import RecordedSpeaker

__all__ = ["IflowAgent"]

_DONE: Final = "done"
_REASONS: Final[Mapping[EndReason, StopReason]] = {
    "finished": "finished",
    "terminated": "terminated",
    "truncated": "truncated",
    "turn_limit": "turn_limit",
    "time_limit": "time_limit",
    "context_overflow": "context_overflow",
    "malformed": "malformed",
    "loop": "loop",
    "blocked": "blocked",
}


class IflowAgent:
    """Drives episodes with the loop that people's conversations run in, too. Instances keep no state."""

    def __init__(self, settings: IflowSettings) -> None:
        """Keep the settings."""
        self._settings = settings
        self._dialect = dialect(settings.dialect)

    def write_action(self, action: ExpertAction | None) -> str:
        """Return the reply that makes this action; None is the reply that ends the episode."""
        if action is None:
            return self._dialect.write(ChatMessage(role="assistant", content=_DONE)).content
        call = ChatCall(id="0", name=action.call.name, arguments=action.call.arguments)
        return self._dialect.write(ChatMessage(role="assistant", calls=(call,))).content

    async def run(self, episode: Episode) -> Outcome:
        """Drive the episode until it is done, the environment ends it, or a limit strikes."""
        host = Host(
            speaker=RecordedSpeaker(episode.model, self._dialect),
            dialect=self._dialect,
            context=episode.context,
            limits=episode.limits,
            sandbox=episode.sandbox if isinstance(episode, HostingEpisode) else None,
            tools=episode.tools,
        )
        async with assembled(self._settings, host) as agent:
            await enter(agent, "\n".join(part for part in (episode.task.instruction, episode.observation.text) if part))
            ending = await drive(agent.thread)
        return Outcome(reason=_REASONS[ending.reason], malformed_calls=ending.malformed)
