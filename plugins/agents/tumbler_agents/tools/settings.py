"""Settings of the tools over a sandbox."""

from pydantic import Field

from tumbler.config import Settings

__all__ = ["SandboxToolsSettings"]


class SandboxToolsSettings(Settings):
    """Bounds of the tools over a sandbox; every wait and every answer has one."""

    folder: str | None = None
    """The working folder, which relative paths start from; null is the sandbox's own."""

    output_chars: int = Field(default=16_000, ge=200)
    """Characters of one answer; of a longer one the beginning and the end are shown."""

    line_chars: int = Field(default=2_000, ge=20)
    """Characters of one line of a file; longer ones are cut."""

    read_lines: int = Field(default=2_000, ge=1)
    """Lines that `read` shows where the call names no limit."""

    file_bytes: int = Field(default=10 << 20, ge=1)
    """The largest file that can be read or edited."""

    results: int = Field(default=200, ge=1)
    """Names or lines that `list`, `glob` and `search` show where the call names no limit."""

    command_seconds: float = Field(default=120.0, gt=0)
    """What a shell command gets where the call names no time-out."""

    most_command_seconds: float = Field(default=600.0, gt=0)
    """The longest time-out that a call may name."""

    search_seconds: float = Field(default=60.0, gt=0)
    """What `list`, `glob` and `search` get for one walk through a tree."""

    skipped_folders: tuple[str, ...] = (".git", ".hg", ".svn", "node_modules", "__pycache__")
    """Names of folders that walks do not enter; a call that names such a folder itself does."""
