"""Sub-agents: what one is, and how one is written as a file; starts none."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import Field, ValidationError

from tumbler.config import Settings
from tumbler.errors import RegistryError
from tumbler_agents.iflow.prompts import GENERAL, GENERAL_DESCRIPTION

__all__ = ["GENERAL_AGENT", "SubAgent", "SubAgentSettings", "parse_definition", "read_definitions", "read_text"]


class SubAgent(Settings):
    """One sub-agent."""

    name: str = Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=40)
    """What the policy calls it: lower-case words joined by hyphens."""

    description: str = Field(min_length=1, max_length=500)
    """What the policy is told that it is good for."""

    prompt: str = Field(min_length=1)
    """Its system message."""

    include: tuple[str, ...] = ("*",)
    """Patterns of the tools that it inherits."""

    exclude: tuple[str, ...] = ()
    """Patterns of tools that it does not get."""

    mcp: bool = True
    """Whether it inherits the tools of MCP servers."""

    turns: int = Field(default=16, ge=1)
    """Model calls that it may make; they count among the episode's, too."""


GENERAL_AGENT = SubAgent(name="general", description=GENERAL_DESCRIPTION, prompt=GENERAL)
"""The sub-agent that is always there, unless another one has its name."""


class SubAgentSettings(Settings):
    """Which sub-agents the policy may give tasks to."""

    depth: int = Field(default=1, ge=0, le=4)
    """How deep they may be nested: 1 lets the main agent alone have some; 0 gives none to anybody."""

    general: bool = True
    """Whether there is one for tasks of every kind."""

    agents: tuple[SubAgent, ...] = ()
    """Further ones."""

    folder: Path | None = None
    """A folder of this machine with one Markdown file for each further one: the prompt, with name, description and
    the other settings in front matter."""

    answer_characters: int = Field(default=16_000, ge=200)
    """What is kept of an answer."""


def read_definitions(folder: Path) -> Sequence[SubAgent]:
    """Return the sub-agents that a folder's Markdown files define, by name; raise `RegistryError` for a bad one."""
    folder = folder.expanduser()
    if not folder.is_dir():
        raise RegistryError(f"there is no folder {folder} with sub-agents")
    agents: dict[str, SubAgent] = {}
    for path in sorted(folder.glob("*.md")):
        agent = parse_definition(read_text(path), str(path))
        if agent.name in agents:
            raise RegistryError(f"{path}: another file of the folder defines the sub-agent {agent.name!r}, too")
        agents[agent.name] = agent
    return list(agents.values())


def read_text(path: Path) -> str:
    """Return a file's text; raise `RegistryError` where it cannot be read, or is none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RegistryError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RegistryError(f"{path} is not written in UTF-8: {error}") from error


def parse_definition(text: str, source: str) -> SubAgent:
    """Return the sub-agent that a Markdown file defines; raise `RegistryError`, which names `source`.

    Front matter is lines of `key: value` between two lines of `---`; a list is written `a, b` or `[a, b]`.
    """
    lines = text.lstrip("\ufeff").replace("\r\n", "\n").split("\n")
    if lines[0].strip() != "---" or "---" not in (line.strip() for line in lines[1:]):
        raise RegistryError(f"{source}: a sub-agent's file begins with its name and description between lines of ---")
    end = next(index for index, line in enumerate(lines) if index and line.strip() == "---")
    values = _values(lines[1:end], source)
    values["prompt"] = "\n".join(lines[end + 1 :]).strip()
    try:
        return SubAgent.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{_place(each['loc'])}: {each['msg']}" for each in error.errors(include_url=False))
        raise RegistryError(f"{source}: {problems}") from None


def _values(lines: Iterable[str], source: str) -> dict[str, object]:
    values: dict[str, object] = {}
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, colon, value = line.partition(":")
        if not colon or key != key.strip():
            raise RegistryError(f"{source}: {line.strip()!r} is not of the form `key: value`")
        values[key] = _list(value) if key in ("include", "exclude") else _unquoted(value.strip())
    return values


def _list(value: str) -> list[str]:
    return [
        _unquoted(each.strip()) for each in value.strip().removeprefix("[").removesuffix("]").split(",") if each.strip()
    ]


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def _place(loc: Sequence[object]) -> str:
    return ".".join(str(part) for part in loc)
