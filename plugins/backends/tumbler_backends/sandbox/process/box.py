"""One sandbox as a private folder to start marked programs in; knows neither commands nor sessions."""

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.contracts.sandbox_process import TerminalSize
from tumbler.errors import SandboxDied
from tumbler_backends.sandbox.process.files import ProcessFiles
from tumbler_backends.sandbox.process.launch import LocalProgram, Sink, launch
from tumbler_backends.sandbox.process.owners import remove_tree
from tumbler_backends.sandbox.process.tree import COMMAND_MARK, SANDBOX_MARK, Mark, kill_tree, signal_tree

__all__ = ["Box"]

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TERMINATE: Final = 15
_KILL: Final = 9
_DEATH_S: Final = 10.0
"""How long the kernel may take to end what is killed."""


class Box:
    """A sandbox's folder and programs."""

    def __init__(self, owner: str, folder: Path, spec: SandboxSpec, grace: float) -> None:
        """Plan the sandbox that lies in `folder`; `make` makes it."""
        self.id = folder.name
        self.spec = spec
        self.folder = folder
        self.grace = grace
        self.root = folder / "root"
        self.files = ProcessFiles(self.root, spec.workdir, folder / "staging")
        self.programs: set[LocalProgram] = set()
        self.watching: set[asyncio.Task[None]] = set()
        self.last_use = time.monotonic()
        self._mark = Mark(variable=SANDBOX_MARK, value=f"{owner}/{self.id}")
        self._end: tuple[str, str] | None = None

    def make(self, template: Path | None) -> None:
        """Make the folders, with a template's files where there is one. Blocks."""
        self.folder.mkdir(mode=0o700)
        (self.folder / "staging").mkdir()
        if template is not None:
            ProcessFiles(template, "/", template).copy(self.root)
        for place in (self.root, self.root / "tmp", self.root / "home", self.files.locate(self.spec.workdir)):
            place.mkdir(parents=True, exist_ok=True)

    def require(self) -> None:
        """Count as a use, and raise `SandboxDied` once the sandbox is gone."""
        self.last_use = time.monotonic()
        if (death := self.death) is not None:
            raise death

    @property
    def death(self) -> SandboxDied | None:
        """Return why the sandbox is gone; None while it is there."""
        if self._end is None:
            return None
        cause, why = self._end
        return SandboxDied(f"sandbox {self.id} is gone: {why}; create another", cause)

    @property
    def busy(self) -> bool:
        """Tell whether a program runs that was started here."""
        return any(not program.exited.done() for program in self.programs)

    def environment(self, more: Mapping[str, str], tree: str) -> dict[str, str]:
        """Return the whole environment of a program; nothing of this process's own is in it."""
        return {
            "PATH": _PATH,
            "LANG": "C.UTF-8",
            "HOME": str(self.root / "home"),
            "TMPDIR": str(self.root / "tmp"),
            **self.spec.env,
            COMMAND_MARK: tree,
            **more,
            SANDBOX_MARK: self._mark.value,
        }

    def start(
        self,
        words: Sequence[str],
        *,
        cwd: str | None,
        env: Mapping[str, str],
        stdin: bool,
        sinks: tuple[Sink, Sink],
        size: TerminalSize | None = None,
    ) -> "BoxProgram":
        """Start a program; raises what `launch` raises, and `SandboxDied`."""
        self.require()
        tree = secrets.token_hex(8)
        place = self.files.locate(cwd or ".")
        variables = self.environment(env, tree)
        program = launch(words, env=variables, cwd=place, stdin=stdin, sinks=sinks, size=size)
        self.programs = {each for each in self.programs if not each.finished} | {program}
        return BoxProgram(self, program, tree)

    def signal(self, number: int) -> int:
        """Send a signal to all processes of the sandbox. Blocks."""
        return signal_tree(self._mark, number)

    async def dispose(self, cause: str, why: str) -> None:
        """Kill all processes and remove the folder."""
        self._end = self._end or (cause, why)
        # A session's id is its leader's pid, and means something as long as that runs.
        sessions = frozenset(program.pid for program in self.programs if not program.exited.done())
        await asyncio.to_thread(kill_tree, replace(self._mark, sessions=sessions))
        for program in tuple(self.programs):
            await program.ended(_DEATH_S)
            program.close()
        await asyncio.gather(*self.watching, return_exceptions=True)
        await asyncio.to_thread(remove_tree, self.folder)


class BoxProgram:
    """A program of a box, with all that it started."""

    def __init__(self, box: Box, program: LocalProgram, tree: str) -> None:
        """Take over a started program."""
        self.program = program
        self._box = box
        self._tree = tree
        self._killing: asyncio.Task[None] | None = None

    async def signal(self, number: int) -> None:
        """Send a signal to all its processes."""
        await asyncio.to_thread(signal_tree, self._mark, number)

    async def kill(self, grace: float | None = None) -> None:
        """End them all: SIGTERM, a grace, SIGKILL. Goes on when the caller is cancelled."""
        if self._killing is None:
            self._killing = asyncio.get_running_loop().create_task(
                self._kill(self._box.grace if grace is None else grace)
            )
        await asyncio.shield(self._killing)

    def forget(self) -> None:
        """Give the descriptors back: what its children still say interests nobody."""
        self.program.close()

    async def _kill(self, grace: float) -> None:
        if grace > 0:
            await asyncio.to_thread(signal_tree, self._mark, _TERMINATE)
            await self.program.ended(grace)
        await asyncio.to_thread(kill_tree, self._mark)
        if not await self.program.ended(_DEATH_S):
            self.program.exited.set_result(-_KILL)

    @property
    def _mark(self) -> Mark:
        return Mark(variable=COMMAND_MARK, value=self._tree, sessions=frozenset({self.program.pid}))
