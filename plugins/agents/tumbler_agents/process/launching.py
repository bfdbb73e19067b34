"""How a program is started in a sandbox, and what it has said in the end; knows no episode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tumbler.contracts.gateway import Endpoint
from tumbler.contracts.sandbox import Sandbox
from tumbler.contracts.sandbox_process import Process, SpawningSandbox, Stream
from tumbler.errors import CapabilityError
from tumbler_agents.process.files import write_file

__all__ = ["PROMPT", "Asked", "Launch", "start", "tail"]

PROMPT: Final = "prompt.txt"
"""The file of the prompt, in the program's folder."""

_OUTPUT_BYTES: Final = 1 << 20
_START: Final = 'PATH="${1:+$1:}$PATH"; export PATH; input=$2; shift 2; exec "$@" <"$input"'
"""Gets what to put before PATH, a file for standard input, and the words of a command."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a program is asked, and where its model is."""

    endpoint: Endpoint
    """As the sandbox reaches it."""
    prompt: str
    turns: int
    """Model calls that it may make."""
    folder: str
    """Where its own files lie, inside."""

    def values(self, base_url: str) -> dict[str, str]:
        """Return what the places in settings stand for."""
        return {
            "base_url": base_url,
            "key": self.endpoint.secret,
            "model": self.endpoint.model,
            "prompt_file": f"{self.folder}/{PROMPT}",
            "folder": self.folder,
            "turns": str(self.turns),
            "context_length": "" if self.endpoint.context_length is None else str(self.endpoint.context_length),
        }


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How a program is started."""

    command: Sequence[str]
    env: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
    """Name below its folder → text."""
    reads_prompt: bool = False
    """Whether the prompt is on its standard input, which is empty otherwise."""
    path: str = ""
    """A folder of commands that comes before the sandbox's own."""


async def start(sandbox: Sandbox, launch: Launch, asked: Asked) -> Process:
    """Write the program's files, and start it in the sandbox's working directory."""
    if not isinstance(sandbox, SpawningSandbox):
        raise CapabilityError("the sandbox backend cannot keep a process running, which the agent's program is")
    for name, text in {PROMPT: asked.prompt, **launch.files}.items():
        await write_file(sandbox, f"{asked.folder}/{name}", text.encode())
    source = f"{asked.folder}/{PROMPT}" if launch.reads_prompt else "/dev/null"
    words = ["sh", "-c", _START, "start", launch.path, source, *launch.command]
    return await sandbox.spawn(words, env=launch.env, max_output=_OUTPUT_BYTES, tag="agent")


async def tail(process: Process, stream: Stream, limit: int) -> bytes:
    """Return the last bytes of what an ended process has said."""
    kept, offset = b"", 0
    while limit > 0:
        piece = await process.read(stream, offset=offset, timeout=0.0)
        kept = (kept + piece.data)[-limit:]
        offset = piece.offset + len(piece.data)
        if piece.end or not piece.data:
            break
    return kept
