"""The tool set over a sandbox: files and a shell, for whichever scaffold wants them."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tumbler.contracts.sandbox import Sandbox
from tumbler_agents.tools.changing import edit_tool, multi_edit_tool, write_tool
from tumbler_agents.tools.ledger import FileLedger
from tumbler_agents.tools.listing import glob_tool, list_tool
from tumbler_agents.tools.reading import read_many_tool, read_tool
from tumbler_agents.tools.search import search_tool
from tumbler_agents.tools.settings import SandboxToolsSettings
from tumbler_agents.tools.shell import LastingShell, shell_tool
from tumbler_agents.tools.tool import Tool
from tumbler_agents.tools.workplace import Workplace

__all__ = ["SandboxTools", "sandbox_tools"]


class SandboxTools:
    """The tools of one agent: they share a shell and what the agent knows of the files.

    Agents that work in one sandbox at the same time have a set each. `close` ends the shell; deleting the sandbox
    does so, too.
    """

    def __init__(
        self, sandbox: Sandbox, settings: SandboxToolsSettings | None = None, ledger: FileLedger | None = None
    ) -> None:
        """Make the tools; a ledger restored from a checkpoint goes on, otherwise no file is known."""
        self.ledger = ledger if ledger is not None else FileLedger()
        place = Workplace(sandbox, settings or SandboxToolsSettings(), self.ledger)
        self._shell = LastingShell(place)
        self.tools: Sequence[Tool] = (
            shell_tool(self._shell),
            read_tool(place),
            read_many_tool(place),
            write_tool(place),
            edit_tool(place),
            multi_edit_tool(place),
            list_tool(place),
            glob_tool(place),
            search_tool(place),
        )

    async def close(self) -> None:
        """End the shell. Safe to call twice."""
        await self._shell.close()

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the shell."""
        await self.close()


def sandbox_tools(sandbox: Sandbox, settings: SandboxToolsSettings | None = None) -> list[Tool]:
    """Return the tools over a sandbox, for callers that need no ledger and leave the shell to the sandbox's end."""
    return list(SandboxTools(sandbox, settings).tools)
