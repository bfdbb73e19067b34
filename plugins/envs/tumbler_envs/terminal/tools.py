"""The tools on offer, and how a text is written to a file; knows no shell."""

from collections.abc import Sequence

from tumbler.contracts.sandbox import ExecResult, Sandbox
from tumbler.contracts.values import JSON, ToolSpec
from tumbler_envs.terminal.settings import ToolName

__all__ = ["SHELL", "WRITE_FILE", "missing_argument", "specs_of", "write_file"]

SHELL: ToolName = "shell"
WRITE_FILE: ToolName = "write_file"

_SHELL_TEXT = "Run a command in bash. Folder and variables last. It prints the output, and the exit code if it failed."
_WRITE_TEXT = "Write a text to a file; what was in it is replaced, and missing folders are made."
_ARGUMENTS: dict[ToolName, dict[str, str]] = {
    "shell": {"command": "What to run."},
    "write_file": {"path": "Absolute, or below the folder in which the shell started.", "content": "The whole text."},
}
_DESCRIPTIONS: dict[ToolName, str] = {"shell": _SHELL_TEXT, "write_file": _WRITE_TEXT}

_WRITE = 'mkdir -p -- "$(dirname -- "$1")" && cat > "$1"'
_WRITE_SECONDS = 30.0
_MAX_BYTES = 1 << 16


def specs_of(names: Sequence[ToolName]) -> tuple[ToolSpec, ...]:
    """Return the descriptions of the tools, each once."""
    return tuple(
        ToolSpec(name=name, description=_DESCRIPTIONS[name], parameters=_parameters(_ARGUMENTS[name]))
        for name in dict.fromkeys(names)
    )


def missing_argument(name: ToolName, arguments: object) -> str | None:
    """Return the first argument of the tool that is no text a process can be given, or None if all are."""
    given = arguments if isinstance(arguments, dict) else {}
    for argument in _ARGUMENTS[name]:
        value = given.get(argument)
        empty_is_fine = argument == "content"
        if not isinstance(value, str) or "\0" in value or not (empty_is_fine or value.strip()) or not _encodable(value):
            return argument
    return None


async def write_file(sandbox: Sandbox, path: str, content: str, *, cwd: str) -> ExecResult:
    """Write by a process in the sandbox, as its user: what the host may write is more than what an agent may.

    Raises `FileNotFoundError` where `cwd` is gone.
    """
    command = ["/bin/sh", "-c", _WRITE, "write", path]
    return await sandbox.exec(command, input=content.encode(), cwd=cwd, timeout=_WRITE_SECONDS, max_output=_MAX_BYTES)


def _parameters(arguments: dict[str, str]) -> dict[str, JSON]:
    return {
        "type": "object",
        "properties": {name: {"type": "string", "description": text} for name, text in arguments.items()},
        "required": list(arguments),
        "additionalProperties": False,
    }


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
