"""A sandbox in memory: files in a dictionary and a few scripted commands; nothing is ever executed."""

import posixpath
import shlex
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tumbler.contracts.sandbox import ExecResult, IsolationTier, SandboxCapabilities, SandboxSpec
from tumbler.errors import CapabilityError, ExecFailed, SandboxDied, SessionEnded

__all__ = ["MemorySandbox", "MemorySandboxBackend", "MemorySession", "Place", "ScriptedCommand"]


@dataclass(kw_only=True)
class Place:
    """What a scripted command sees and may change."""

    files: MutableMapping[str, bytes]
    """Absolute path → content."""
    workdir: str

    def path(self, name: str) -> str:
        """Return the absolute path of a name."""
        return posixpath.normpath(posixpath.join(self.workdir, name))


ScriptedCommand: TypeAlias = Callable[[Sequence[str], bytes, Place], tuple[int, bytes]]
"""A function from arguments, standard input and place to exit code and standard output."""


class MemorySession:
    """A shell session whose working directory lasts from command to command."""

    def __init__(self, sandbox: "MemorySandbox", workdir: str) -> None:
        """Start in `workdir`."""
        self._sandbox = sandbox
        self._place = Place(files=sandbox.files, workdir=workdir)
        self._ended = False

    async def run(self, command: str, *, timeout: float = 60.0, max_output: int = 1 << 20) -> ExecResult:
        """Run one command; `exit` ends the session."""
        if self._ended:
            raise SessionEnded("the session has ended; open another one", 0)
        if command.strip() == "exit":
            self._ended = True
            raise SessionEnded("the session's shell has exited", 0)
        return self._sandbox.carry_out(shlex.split(command), b"", self._place, max_output)

    async def close(self) -> None:
        """End the session."""
        self._ended = True


class MemorySandbox:
    """One sandbox. The commands are `cat`, `cd`, `echo`, `false`, `ls`, `pwd`, `true`, and the test's own."""

    tier: IsolationTier = "namespace"

    def __init__(self, identity: str, spec: SandboxSpec, commands: Mapping[str, ScriptedCommand]) -> None:
        """Write the spec's files."""
        self.id = identity
        self.spec = spec
        self.files = dict(spec.files)
        self.calls: list[tuple[str, ...]] = []
        self.deleted = False
        self._commands = {**_COMMANDS, **commands}

    async def exec(
        self,
        command: str | Sequence[str],
        *,
        input: bytes | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        max_output: int = 10 << 20,
        check: bool = False,
    ) -> ExecResult:
        """Run one command; words are split as a shell does, and nothing else of a shell is there."""
        words = shlex.split(command) if isinstance(command, str) else list(command)
        place = Place(files=self.files, workdir=cwd or self.spec.workdir)
        result = self.carry_out(words, input or b"", place, max_output)
        if check and result.exit_code:
            raise ExecFailed(f"{shlex.join(words)} exited with {result.exit_code}: {result.stderr.decode()}")
        return result

    def carry_out(self, words: Sequence[str], given: bytes, place: Place, max_output: int) -> ExecResult:
        """Run a command that is split into words; one that is not scripted is exit code 127."""
        self._living()
        self.calls.append(tuple(words))
        if not words:
            return ExecResult(exit_code=0, stdout=b"", stderr=b"", duration=0.0)
        command = self._commands.get(words[0])
        if command is None:
            return ExecResult(exit_code=127, stdout=b"", stderr=f"{words[0]}: not found\n".encode(), duration=0.0)
        code, output = command(words[1:], given, place)
        return ExecResult(
            exit_code=code, stdout=output[:max_output], stderr=b"", duration=0.0, truncated=len(output) > max_output
        )

    async def session(self) -> MemorySession:
        """Open a session in the spec's working directory."""
        self._living()
        return MemorySession(self, self.spec.workdir)

    async def write(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file."""
        self._living()
        self.files[posixpath.normpath(posixpath.join(self.spec.workdir, path))] = content

    async def read(self, path: str, *, limit: int = 10 << 20) -> bytes:
        """Read a file."""
        self._living()
        content = self.files.get(posixpath.normpath(posixpath.join(self.spec.workdir, path)))
        if content is None:
            raise FileNotFoundError(f"there is no file {path} in sandbox {self.id}")
        if len(content) > limit:
            raise OSError(f"{path} holds {len(content)} bytes, more than the {limit} that were asked for")
        return content

    async def alive(self) -> bool:
        """Tell whether it has not been deleted."""
        return not self.deleted

    async def delete(self) -> None:
        """Forget everything."""
        self.deleted = True
        self.files.clear()

    def _living(self) -> None:
        if self.deleted:
            raise SandboxDied(f"sandbox {self.id} has been deleted")


class MemorySandboxBackend:
    """Makes sandboxes in memory; `sandboxes` lists all that it ever made."""

    def __init__(self, commands: Mapping[str, ScriptedCommand] | None = None) -> None:
        """Add `commands` to the few that every sandbox knows."""
        self._commands = commands or {}
        self.sandboxes: list[MemorySandbox] = []

    @property
    def capabilities(self) -> SandboxCapabilities:
        """Claim namespaces, which environments ask for; nothing runs, so nothing can get out."""
        return SandboxCapabilities(tier="namespace")

    async def start(self) -> None:
        """Need nothing."""

    async def create(self, spec: SandboxSpec) -> MemorySandbox:
        """Create a sandbox."""
        if spec.network.mode != "none" or spec.isolation_min not in ("process", "namespace"):
            raise CapabilityError("a sandbox in memory has no network and no stronger isolation than namespaces")
        sandbox = MemorySandbox(f"memory-{len(self.sandboxes)}", spec, self._commands)
        self.sandboxes.append(sandbox)
        return sandbox

    async def close(self) -> None:
        """Delete every sandbox."""
        for sandbox in self.sandboxes:
            await sandbox.delete()


def _cat(arguments: Sequence[str], given: bytes, place: Place) -> tuple[int, bytes]:
    contents = [place.files.get(place.path(name)) for name in arguments] or [given]
    return int(None in contents), b"".join(content for content in contents if content is not None)


def _cd(arguments: Sequence[str], _given: bytes, place: Place) -> tuple[int, bytes]:
    place.workdir = place.path(arguments[0] if arguments else "/")
    return 0, b""


def _ls(arguments: Sequence[str], _given: bytes, place: Place) -> tuple[int, bytes]:
    folder = place.path(arguments[0] if arguments else ".").rstrip("/") + "/"
    names = {path.removeprefix(folder).partition("/")[0] for path in place.files if path.startswith(folder)}
    return 0, "".join(f"{name}\n" for name in sorted(names)).encode()


_COMMANDS: dict[str, ScriptedCommand] = {
    "cat": _cat,
    "cd": _cd,
    "echo": lambda arguments, _given, _place: (0, " ".join(arguments).encode() + b"\n"),
    "false": lambda _arguments, _given, _place: (1, b""),
    "ls": _ls,
    "pwd": lambda _arguments, _given, place: (0, place.workdir.encode() + b"\n"),
    "true": lambda _arguments, _given, _place: (0, b""),
}
