"""Puts a conversation together: agent, model, sandbox, and where it is kept; shows nothing."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from tumbler.cli.agents.choosing import Chosen
from tumbler.cli.agents.keeping import About, KeptConversation, Shelves
from tumbler.cli.agents.minds import Beginning, Keep, Mind, Thought
from tumbler.cli.agents.place import Place
from tumbler.contracts.agent import Limits
from tumbler.contracts.context import ContextPipeline
from tumbler.contracts.conversation import Conversation, ConversationHost
from tumbler.plugins import PluginHost

__all__ = ["Manner", "Party", "Talk", "opened_talk"]

_SECONDS: Final = 24 * 3600.0
"""For one message. The person has Ctrl-C, so that this only ends what was forgotten."""


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How the agent may work."""

    asking: Literal["person", "yes", "nobody"]
    planning: bool = False
    turns: int = 100
    """Replies of the model for one message."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Party:
    """Who converses, where, and in what manner."""

    chosen: Chosen
    host: PluginHost
    mind: Mind
    place: Place
    folder: Path
    shelves: Shelves
    manner: Manner


@dataclass(kw_only=True)
class Talk:
    """A conversation that is open."""

    conversation: Conversation
    context: ContextPipeline
    about: About
    """What it would be kept under, were it to begin now."""
    shelves: Shelves
    record: Keep
    kept: KeptConversation | None = None
    """None until there is something to keep."""
    beginning: str = ""
    """What the person has said first, or else the last command: those of workflows speak to the agent, too."""
    spoken: bool = False
    """Whether the person has said something since it was opened."""

    async def keep(self) -> None:
        """Write down how far the conversation is; one in which the agent has said nothing leaves nothing."""
        if self.kept is None:
            if not any(entry.sampled for entry in self.context.entries):
                return
            self.kept = self.shelves.begin(self.about_with(self.beginning))
        await self.conversation.save(self.kept.saved)
        self.record(self.kept.path)

    def about_with(self, title: str) -> About:
        """Return what to say of it, with a title."""
        return replace(self.about, title=title)

    def said(self, text: str, *, command: bool = False) -> None:
        """Note what the person says."""
        self.beginning = self.beginning if self.spoken else text
        if command:
            return
        self.spoken = True
        if self.kept is not None:
            self.kept.count()


@asynccontextmanager
async def opened_talk(party: Party, about: About, kept: KeptConversation | None = None) -> AsyncGenerator[Talk]:
    """Yield a new conversation, or go on with one that was kept."""
    talk = None
    try:
        agent = party.chosen.build_agent(party.host)
        thought = _thought(party, kept)
        async with agent.converse(_host(party, thought), None if kept is None else kept.saved) as conversation:
            talk = Talk(
                conversation=conversation,
                context=thought.context,
                about=about,
                shelves=party.shelves,
                record=thought.keep,
                kept=kept,
            )
            yield talk
    finally:
        open_one = kept if talk is None else talk.kept
        if open_one is not None:
            open_one.close()


def _thought(party: Party, kept: KeptConversation | None) -> Thought:
    return party.mind.begin(
        Beginning(
            name=f"{1 + _stages(kept)}-conversation",
            strategies=party.chosen.build_context(party.host),
            sandbox=party.place.sandbox,
            seed=party.manner.seed,
            resumed=kept is not None,
        )
    )


def _host(party: Party, thought: Thought) -> ConversationHost:
    manner = party.manner
    return ConversationHost(
        model=thought.model,
        context=thought.context,
        limits=Limits(turns=manner.turns, seconds=_SECONDS),
        sandbox=party.place.sandbox,
        tools=thought.tools,
        asking=manner.asking,
        planning=manner.planning,
    )


def _stages(kept: KeptConversation | None) -> int:
    """Return how many times a conversation was recorded before."""
    return 0 if kept is None else len(list(kept.path.glob("stages/*")))
