"""Gives each server's tools names that every model's interface accepts and that no two tools share."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Final

from tumbler.plugins.names import did_you_mean
from tumbler_agents.mcp.errors import McpServerError
from tumbler_agents.mcp.settings import McpServer

__all__ = ["chosen", "legal_name", "require_distinct", "require_offered"]

_MOST_CHARS: Final = 64
_DIGEST_CHARS: Final = 8
_ILLEGAL: Final = re.compile(r"[^A-Za-z0-9_-]")


def legal_name(prefix: str, name: str) -> str:
    """Return `prefix__name` in letters, digits, `_` and `-`; what is too long ends in a digest of the whole."""
    full = f"{prefix}__{name}" if prefix else name
    legal = _ILLEGAL.sub("_", full)
    if len(legal) <= _MOST_CHARS:
        return legal
    digest = hashlib.sha256(full.encode()).hexdigest()[:_DIGEST_CHARS]
    return f"{legal[: _MOST_CHARS - _DIGEST_CHARS - 1]}_{digest}"


def chosen(server: McpServer, names: Sequence[str]) -> list[str]:
    """Return the names that the settings include and do not exclude, in the server's order."""
    return [
        name
        for name in names
        if (not server.include or _matches(name, server.include)) and not _matches(name, server.exclude)
    ]


def require_distinct(named: Iterable[tuple[str, str, str]]) -> None:
    """Raise `McpServerError` where two tools share a name; takes name, server and the server's own name of each."""
    taken: dict[str, tuple[str, str]] = {}
    for name, server, tool in named:
        if name in taken:
            other, others_tool = taken[name]
            raise McpServerError(
                f"two tools would be named {name!r}: {others_tool!r} of the MCP server {other!r} and {tool!r} of "
                f"{server!r}; give one of the servers another `prefix`, or exclude one of the tools"
            )
        taken[name] = server, tool


def require_offered(server: str, settings: McpServer, names: Sequence[str]) -> None:
    """Raise `McpServerError` where the settings name a tool that the server does not offer."""
    for pattern in (*settings.include, *settings.exclude):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise McpServerError(
                f"the settings of the MCP server {server!r} name {pattern!r}, but it offers no such tool. "
                f"{did_you_mean(pattern, names)}"
            )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
