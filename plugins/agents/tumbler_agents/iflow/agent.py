"""The agent `iflow`, in an episode or with a person; the loop itself is in `loop`."""

from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Final

from tumbler.contracts.agent import Episode, HostingEpisode, Outcome
from tumbler.contracts.chat import ChatCall, ChatMessage
from tumbler.contracts.conversation import Conversation, ConversationHost
from tumbler.contracts.environment import ExpertAction
from tumbler.contracts.values import JSON
from tumbler.dialects import dialect
from tumbler_agents.iflow.assembly import Assembled, Host, assembled
from tumbler_agents.iflow.conversing import conversing
from tumbler_agents.iflow.loop import drive
from tumbler_agents.iflow.opening import enter
from tumbler_agents.iflow.settings import IflowSettings
from tumbler_agents.iflow.speaking import RecordedSpeaker

__all__ = ["IflowAgent"]

_DONE: Final = "done"


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
        return Outcome(reason=ending.reason, malformed_calls=ending.malformed, details=_details(agent))

    def converse(self, host: ConversationHost, saved: Path | None = None) -> AbstractAsyncContextManager[Conversation]:
        """Open a conversation with a person."""
        return conversing(self._settings, host, saved)


def _details(agent: Assembled) -> dict[str, JSON]:
    """Return what the hooks did, also those of the session's end; nothing where there are none."""
    records: list[JSON] = [asdict(record) for record in agent.thread.shared.hooks.records]
    return {"hooks": records} if records else {}
