"""Workflows: a folder that bundles agents, commands, memory, MCP servers and hooks under one name."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError, field_validator

from tumbler.config import Settings
from tumbler.errors import ComponentNotFoundError, RegistryError
from tumbler.plugins.names import did_you_mean
from tumbler_agents.iflow.definitions import SubAgent, read_definitions, read_text
from tumbler_agents.iflow.hooks import HookSettings
from tumbler_agents.iflow.own_commands import OWN_COMMANDS
from tumbler_agents.mcp.settings import McpServer

__all__ = ["FILE", "Command", "Workflow", "load_workflow"]

FILE: Final = "workflow.toml"
_NAME: Final = re.compile(r"[A-Za-z0-9][\w-]*")
_ARGUMENT: Final = re.compile(r"\$(ARGUMENTS|[1-9])")


class Command(Settings):
    """A prompt that the person calls with a slash and its name."""

    description: str = ""
    """What `/help` says of it."""

    prompt: str = Field(min_length=1)
    """What the agent is told; `$ARGUMENTS` stands for all that follows the name, `$1` to `$9` for its words."""

    def filled(self, arguments: str) -> str:
        """Return the prompt for these arguments; those that it has no place for come behind it."""
        words = arguments.split()

        def fill(match: re.Match[str]) -> str:
            if match[1] == "ARGUMENTS":
                return arguments
            index = int(match[1]) - 1
            return words[index] if index < len(words) else ""

        text = _ARGUMENT.sub(fill, self.prompt)
        return f"{text}\n\n{arguments}" if arguments and not _ARGUMENT.search(self.prompt) else text


class Workflow(Settings):
    """What a `workflow.toml` says. Markdown files in its folder `agents` are sub-agents, too."""

    summary: str = ""
    """What it is for."""

    system_prompt: str | None = None
    """The system message in place of the scaffold's."""

    agents: tuple[SubAgent, ...] = ()
    """Sub-agents."""

    commands: Mapping[str, Command] = Field(default_factory=dict)
    """Commands by name."""

    memory: Mapping[str, str] = Field(default_factory=dict)
    """Texts that the agent is told at the start, by name."""

    memory_files: tuple[str, ...] = ()
    """Files of the bundle with such texts."""

    mcp: Mapping[str, McpServer] = Field(default_factory=dict)
    """MCP servers by name."""

    hooks: tuple[HookSettings, ...] = ()
    """Hooks, after those of the settings."""

    @field_validator("commands")
    @classmethod
    def _can_be_called(cls, value: Mapping[str, Command]) -> Mapping[str, Command]:
        for name in value:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot be typed behind a slash; use letters, digits, - and _")
            if name in OWN_COMMANDS:
                raise ValueError(f"/{name} is the scaffold's own command; give this one another name")
        return value


def load_workflow(name: str, folder: Path | None) -> Workflow:
    """Return the workflow in the sub-folder `name`, its agents and memory files read in.

    Raises `ComponentNotFoundError` where there is none, and `RegistryError` where it cannot be read.
    """
    folder = None if folder is None else folder.expanduser()
    known = sorted(path.parent.name for path in folder.glob(f"*/{FILE}")) if folder is not None else []
    if folder is None or name not in known:
        where = "no folder of workflows is set" if folder is None else f"{folder} has no workflow {name!r}"
        raise ComponentNotFoundError(f"{where}. {did_you_mean(name, known)}")
    home = folder / name
    workflow = _parsed(home / FILE)
    agents = read_definitions(home / "agents") if (home / "agents").is_dir() else ()
    return workflow.model_copy(
        update={
            "agents": (*workflow.agents, *agents),
            "memory": {**workflow.memory, **{each: _text(home, each) for each in workflow.memory_files}},
        }
    )


def _parsed(path: Path) -> Workflow:
    try:
        return Workflow.model_validate(tomllib.loads(read_text(path)))
    except tomllib.TOMLDecodeError as error:
        raise RegistryError(f"{path}: {error}") from None
    except ValidationError as error:
        problems = [f"{_place(each['loc'])}: {each['msg']}" for each in error.errors(include_url=False)]
        raise RegistryError(f"{path}: {'; '.join(problems)}") from None


def _text(home: Path, name: str) -> str:
    path = (home / name).resolve()
    if not path.is_relative_to(home.resolve()) or not path.is_file():
        raise RegistryError(f"{home / FILE}: memory_files names {name!r}, which is no file of the bundle")
    return read_text(path)


def _place(loc: Sequence[object]) -> str:
    return ".".join(str(part) for part in loc)
