"""The sandbox that callers hold, for containers of this machine."""

from collections.abc import Mapping, Sequence

from tumbler.contracts.sandbox import ExecResult
from tumbler.contracts.sandbox_process import ProcessInfo, TerminalSize
from tumbler_backends.sandbox.docker.box import Box
from tumbler_backends.sandbox.docker.command import run_command, words_of
from tumbler_backends.sandbox.docker.control import Controlled
from tumbler_backends.sandbox.docker.file_access import LocalFiles
from tumbler_backends.sandbox.docker.owned import Keeper, OwnedSandbox
from tumbler_backends.sandbox.docker.session import DockerSession
from tumbler_backends.sandbox.docker.shell import Shell
from tumbler_backends.sandbox.docker.spawned import DockerProcess, spawn_process
from tumbler_backends.sandbox.docker.tree import ContainerTree
from tumbler_backends.sandbox.posix.command import require_success
from tumbler_backends.sandbox.posix.spawning import SpawnBook, SpawnRecord

__all__ = ["DockerSandbox"]


class DockerSandbox(LocalFiles, OwnedSandbox):
    """One sandbox; see `tumbler.contracts.sandbox_control.CompleteSandbox` for what each method promises.

    Commands share processes, files and /tmp: what a command leaves behind in the background lives on.
    """

    def __init__(self, box: Box, tree: ContainerTree, controlled: Controlled, keeper: Keeper) -> None:
        """Take over a running container."""
        super().__init__(box, controlled, keeper)
        self._box = box
        self._tree = tree
        self._spawned: SpawnBook[DockerProcess] = SpawnBook()

    @property
    def box(self) -> Box:
        """Return the state that its parts share; for the backend."""
        return self._box

    @property
    def tree(self) -> ContainerTree:
        """Return its files; for the backend."""
        return self._tree

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
        """Run one command and wait for it; `max_output` bytes of stdout and as many of stderr are kept."""
        result = await run_command(
            self._box, command, given=input, cwd=cwd, env=env or {}, timeout=timeout, max_output=max_output
        )
        if check:
            require_success(command, result, timeout)
        return result

    async def session(self) -> DockerSession:
        """Open a bash session."""
        self._box.require()
        return DockerSession(self._box, await Shell.start(self._box))

    async def spawn(
        self,
        command: str | Sequence[str],
        *,
        exec_id: str | None = None,
        stdin: bool = False,
        pty: TerminalSize | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        max_output: int = 8 << 20,
        tag: str | None = None,
    ) -> DockerProcess:
        """Start a process and return at once."""
        words = words_of(command)
        self._box.require()

        async def start(name: str) -> DockerProcess:
            told = [command] if isinstance(command, str) else words
            record = SpawnRecord(name, told, max_output=max_output, tag=tag)
            return await spawn_process(
                self._box, command, record, stdin=stdin, terminal=pty, cwd=cwd, env=env or {}, timeout=timeout
            )

        return await self._spawned.spawn(exec_id, start)

    async def process(self, exec_id: str) -> DockerProcess:
        """Return a process spawned before, running or ended."""
        return await self._spawned.get(exec_id)

    async def processes(self) -> Sequence[ProcessInfo]:
        """Return the spawned processes, oldest first."""
        return self._spawned.infos()
