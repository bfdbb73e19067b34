"""The tools of one agent, from wherever they come; carries nothing out."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from tumbler.contracts.values import ToolSpec
from tumbler.plugins.names import did_you_mean
from tumbler_agents.tools.tool import Tool

__all__ = ["Offer", "Origin", "Toolbox", "chosen"]

Origin: TypeAlias = Literal["environment", "sandbox", "mcp", "own"]


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A tool on offer."""

    spec: ToolSpec
    origin: Origin
    tool: Tool | None = None
    """None for the environment's own."""
    reads_only: bool = False
    side_by_side: bool = False
    """Whether it may run beside other calls of one reply."""
    planning: bool = False
    """Whether it may be called while a plan waits for approval, although it is not read-only."""

    @classmethod
    def of(cls, tool: Tool, origin: Origin, *, side_by_side: bool = False, planning: bool = False) -> "Offer":
        """Offer a tool of the scaffold's."""
        return cls(
            spec=tool.spec,
            origin=origin,
            tool=tool,
            reads_only=tool.reads_only,
            side_by_side=side_by_side or tool.reads_only,
            planning=planning,
        )


class Toolbox:
    """Offers by name. The first of a name is taken: the environment's tools come before the scaffold's."""

    def __init__(self, offers: Sequence[Offer]) -> None:
        """Keep the offers, in order."""
        self._offers: dict[str, Offer] = {}
        for offer in offers:
            self._offers.setdefault(offer.spec.name, offer)

    @property
    def offers(self) -> Sequence[Offer]:
        """Return all that is on offer, in order."""
        return list(self._offers.values())

    @property
    def specs(self) -> Sequence[ToolSpec]:
        """Return what the policy is told; it stays the same but where the person asks for a plan."""
        return [offer.spec for offer in self._offers.values()]

    def get(self, name: str) -> Offer | None:
        """Return the tool of that name."""
        return self._offers.get(name)

    def quiet(self, name: str) -> bool:
        """Tell whether a tool changes no file, or keeps the ledger of files itself."""
        offer = self._offers.get(name)
        return offer is None or offer.reads_only or name in _LEDGERED

    def unknown(self, name: str) -> str:
        """Return what the policy is told of a name that no tool has."""
        return f"error: there is no tool {name!r}. {did_you_mean(name, self._offers)}"


_LEDGERED = frozenset({"write", "edit", "multi_edit", "todo_write"})


def chosen(name: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Tell whether patterns such as `read*` choose a tool."""
    return any(fnmatchcase(name, each) for each in include) and not any(fnmatchcase(name, each) for each in exclude)
