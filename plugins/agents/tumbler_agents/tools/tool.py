"""What a scaffold's own tool is; knows no scaffold and no sandbox."""

from dataclasses import dataclass
from typing import Protocol

from tumbler.contracts.values import JSONObject, ToolSpec

__all__ = ["Tool", "ToolOutput"]


@dataclass(frozen=True, kw_only=True)
class ToolOutput:
    """What a call brought: the text that the policy reads, and whether the call went wrong."""

    text: str
    errored: bool = False
    ends: bool = False
    """Whether the episode's environment has ended with this call."""


class Tool(Protocol):
    """One tool. A call that cannot be carried out is answered with an errored output that says how to mend it.

    Only failures of infrastructure raise, such as `SandboxDied`.
    """

    @property
    def spec(self) -> ToolSpec:
        """Return name, description and the JSON Schema of the arguments."""
        ...

    @property
    def reads_only(self) -> bool:
        """Return whether it changes nothing: such calls may run side by side and need no approval."""
        ...

    async def call(self, arguments: JSONObject) -> ToolOutput:
        """Carry out one call."""
        ...
