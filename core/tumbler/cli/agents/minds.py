"""What a model is to a conversation, wherever it runs; knows neither servers nor engines."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from tumbler.contracts.agent import EpisodeModel, EpisodeTools
from tumbler.contracts.chat import ChatModel
from tumbler.contracts.context import ContextPipeline
from tumbler.contracts.environment import Task
from tumbler.contracts.sandbox import Sandbox
from tumbler.rollout.context import NamedStrategy

__all__ = ["CONVERSATION", "Beginning", "Keep", "Mind", "Thought", "room_for_reply"]

CONVERSATION: Final = Task(id="conversation", instruction="A conversation with a person.", split="conversation")
"""What context strategies are told of the task: it is what the person says."""

_LARGEST_ROOM: Final = 4096
_SHARE: Final = 4


class Keep(Protocol):
    """Writes what was recorded of a conversation into its folder."""

    def __call__(self, folder: Path) -> None:
        """Write it; what was written before is replaced."""
        ...


@dataclass(frozen=True, kw_only=True)
class Thought:
    """One conversation's model, its empty log, and its record."""

    model: ChatModel | EpisodeModel
    context: ContextPipeline
    tools: EpisodeTools
    keep: Keep


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What a conversation is begun with."""

    name: str
    """For the record; no two of one process are equal."""
    strategies: Sequence[NamedStrategy]
    sandbox: Sandbox | None
    seed: int = 0
    resumed: bool = False
    """Whether the conversation began earlier, so that a record of it lacks its beginning."""


class Mind(Protocol):
    """A model that is ready."""

    @property
    def name(self) -> str:
        """Return the model's name for the person."""
        ...

    @property
    def window(self) -> int:
        """Return the longest conversation and reply, in tokens."""
        ...

    @property
    def window_source(self) -> str:
        """Return where the window's size is from."""
        ...

    def begin(self, beginning: Beginning) -> Thought:
        """Begin a conversation."""
        ...

    def advice(self, problem: str) -> str:
        """Return what the person may do about an error of the model's; empty where there is nothing to say."""
        ...


def room_for_reply(window: int, max_tokens: int | None) -> int:
    """Return the tokens that are kept for a reply: what was asked for, or a part of the window."""
    return max_tokens if max_tokens is not None else min(_LARGEST_ROOM, max(1, window // _SHARE))
