"""What clients ask of a sandbox."""

from typing import Annotated, TypeAlias

from pydantic import Field

from tumbler_backends.sandbox.wire.fields import Body, Seconds, Text, WireBytes, WireText

__all__ = [
    "Command",
    "CountBody",
    "ExecBody",
    "ExpectBody",
    "Identity",
    "LifetimeBody",
    "MkdirBody",
    "MoveBody",
    "RunBody",
    "SessionBody",
    "SignalBody",
    "SizeBody",
    "SpawnBody",
]

Identity: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
"""An id that the client chooses."""

Command: TypeAlias = WireText | Annotated[tuple[WireText, ...], Field(min_length=1)]
"""A string for `sh -c`, or words."""

_Limit = Annotated[int, Field(ge=0, le=1 << 30)]


class ExecBody(Body):
    """One command to run and wait for."""

    command: Command
    """A string for `sh -c`, or words."""
    exec_id: Identity | None = None
    """The client's id of this run: the same id again waits for the same run and never starts a second one."""
    input: WireBytes | None = None
    """Standard input; null is none."""
    cwd: WireText | None = None
    """Relative to the sandbox's working directory."""
    env: dict[Text, WireText] | None = None
    """More variables."""
    timeout: Seconds = 60.0
    """Seconds after which the command is killed."""
    max_output: _Limit = 10 << 20
    """Bytes of each stream to keep."""


class SizeBody(Body):
    """The size of a terminal, in characters."""

    columns: Annotated[int, Field(ge=1, le=65535)] = 80
    rows: Annotated[int, Field(ge=1, le=65535)] = 24


class SpawnBody(Body):
    """One process to start."""

    command: Command
    """A string for `sh -c`, or words."""
    exec_id: Identity | None = None
    """The client's id; starting the same id twice starts one process."""
    stdin: bool = False
    """Keep standard input open."""
    pty: SizeBody | None = None
    """Run in a terminal of this size."""
    cwd: WireText | None = None
    env: dict[Text, WireText] | None = None
    timeout: Seconds | None = None
    """Seconds; null is as long as the sandbox lives."""
    max_output: _Limit = 8 << 20
    """The last so many bytes of each stream are kept."""
    tag: Text | None = None
    """A free name."""


class SignalBody(Body):
    """A signal for a process and its children."""

    number: Annotated[int, Field(ge=1, le=64)]


class SessionBody(Body):
    """A shell session to open."""

    session_id: Identity | None = None
    """The client's id; the same id again is the same session."""


class RunBody(Body):
    """One shell command of a session."""

    command: WireText
    exec_id: Identity | None = None
    """The client's id of this run: the same id again waits for the same run."""
    timeout: Seconds = 60.0
    max_output: _Limit = 1 << 20


class ExpectBody(Body):
    """What to wait for in the output of a started command."""

    pattern: WireBytes
    """A regular expression of bytes."""
    timeout: Seconds = 60.0


class LifetimeBody(Body):
    """How long a sandbox lives from now on."""

    ttl: Seconds


class CountBody(Body):
    """How many copies to make."""

    count: Annotated[int, Field(ge=1, le=64)] = 1


class MkdirBody(Body):
    """A folder to make."""

    path: WireText
    parents: bool = True
    exist_ok: bool = True


class MoveBody(Body):
    """A file or folder to rename."""

    source: WireText
    destination: WireText
