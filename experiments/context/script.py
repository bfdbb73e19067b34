"""What a task of the benchmark is made of: steps that each ask for calls, and what was shown that they need."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tumbler.contracts.values import JSONObject, ToolCall

__all__ = ["Script", "Step", "call"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One request: what is shown with it, and which calls answer it."""

    text: str
    """Shown once, when the step begins."""
    request: str
    """What the line `Now:` says, without its full stop; it can be asked for again."""
    calls: tuple[ToolCall, ...]
    """What is to be called, in any order."""
    instead: tuple[str, ...] = ()
    """Tools that answer the request as well, and wrongly."""
    brings: tuple[str, ...] = ()
    """What each of the calls is answered, besides the next step."""
    delays: tuple[int, ...] = ()
    """Turns after which each of these answers comes; none is late where there are none."""
    scored: bool = False
    """Whether the arguments of the calls count."""
    user: str = ""
    """What the user says when the step begins."""

    @property
    def tools(self) -> frozenset[str]:
        """Return the tools that answer the request."""
        return frozenset([*(each.name for each in self.calls), *self.instead])


@dataclass(frozen=True, kw_only=True)
class Script:
    """One task."""

    family: str
    instruction: str
    steps: tuple[Step, ...]
    needed: tuple[str, ...]
    """The sentences without which the task is lost, unless they can be had again."""
    cards: Mapping[str, str] = field(default_factory=dict)
    """What can be read at any time: name → text."""
    helper: bool = False
    """Whether only a helper can read the cards."""

    @property
    def tools(self) -> frozenset[str]:
        """Return all tools that the steps name."""
        return frozenset[str]().union(*(step.tools for step in self.steps))


def call(name: str, /, **arguments: str) -> ToolCall:
    """Return a call whose arguments are texts."""
    given: JSONObject = arguments
    return ToolCall(name=name, arguments=given)
