"""Spawned processes: started once, watched to their end by a task of their own, whoever is connected."""

import asyncio
import posixpath
import signal
from collections.abc import AsyncIterator, Mapping, Sequence

from tumbler.contracts.sandbox_process import OutputSlice, ProcessExit, ProcessInfo, Stream, TerminalSize
from tumbler.errors import SandboxDied
from tumbler_backends.sandbox.bubblewrap.box import Box
from tumbler_backends.sandbox.bubblewrap.processes.command import lost_folder, require_unstruck, signal_of, words_of
from tumbler_backends.sandbox.bubblewrap.processes.process import BubblewrapProcess
from tumbler_backends.sandbox.bubblewrap.processes.runner import LOST, MOST_SAID, Script, spawn_text
from tumbler_backends.sandbox.bubblewrap.processes.wires import PipeWires, TerminalWires, Wires
from tumbler_backends.sandbox.posix.spawning import SpawnBook, SpawnRecord

__all__ = ["BubblewrapSpawned", "Spawner"]


class BubblewrapSpawned:
    """One spawned process; see `tumbler.contracts.sandbox_process.Process` for what each method promises."""

    def __init__(self, box: Box, record: SpawnRecord, process: BubblewrapProcess, wires: Wires, kills: int) -> None:
        """Take over a process that runs; `kills` counts what died of want of memory before it."""
        self.record = record
        self._box = box
        self._process = process
        self._wires = wires
        self._kills = kills

    @property
    def exec_id(self) -> str:
        """Return the id it was spawned under."""
        return self.record.exec_id

    @property
    def pid(self) -> int:
        """Return the host's process id of the bwrap that holds it."""
        return self._process.pid

    async def read(
        self, stream: Stream = "stdout", *, offset: int = 0, limit: int = 1 << 16, timeout: float = 60.0
    ) -> OutputSlice:
        """Return what the stream holds from byte `offset` on."""
        return await self.record.read(stream, offset=offset, limit=limit, timeout=timeout)

    def follow(self, stream: Stream = "stdout", *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the stream from byte `offset` on until it ends."""
        return self.record.follow(stream, offset=offset)

    async def write_stdin(self, data: bytes) -> None:
        """Send bytes to its standard input, as fast as it reads them."""
        await self._wires.write(data)

    async def close_stdin(self) -> None:
        """End its standard input; in a terminal this types Ctrl-D."""
        await self._wires.end_input()

    async def signal(self, number: int) -> None:
        """Send a signal to the process and all that it started."""
        signal.Signals(number)
        self._process.signal(number)

    async def resize(self, size: TerminalSize) -> None:
        """Set the size of its terminal."""
        self._wires.resize(size)

    async def poll(self) -> ProcessExit | None:
        """Return how it ended; None while it runs."""
        return await self.record.poll()

    async def wait(self, timeout: float | None = None) -> ProcessExit:
        """Wait for its end."""
        return await self.record.wait(timeout)

    async def kill(self) -> ProcessExit:
        """End it and all its children."""
        if not self.record.ended:
            await self._process.stop(self._box.host.settings.grace)
        return await self.record.wait(None)

    async def watch(self, timeout: float | None) -> None:
        """See it to its end, at most `timeout` seconds from now."""
        try:
            timed_out = not await self._box.clock.within(self._process.exited, timeout)
            if timed_out:
                await self._process.stop(self._box.host.settings.grace)
            await self._process.killed()
        finally:
            self._process.kill()
            self._wires.finish()
        try:
            require_unstruck(self._box, self._process)
        except SandboxDied as error:
            self.record.fail(error)
            return
        code = self._process.exited.result()
        self._box.host.metrics.commands += 1
        self._box.host.metrics.timeouts += timed_out
        self.record.finish(
            ProcessExit(
                exit_code=code,
                signal=signal_of(code),
                oom=code != 0 and self._box.out_of_memory_kills() > self._kills,
                timed_out=timed_out,
                duration=self.record.seconds(),
            )
        )


class Spawner:
    """Starts the spawned processes of one sandbox, and finds them again."""

    def __init__(self, box: Box) -> None:
        """Begin with none."""
        self._box = box
        self._book: SpawnBook[BubblewrapSpawned] = SpawnBook()

    async def spawn(
        self,
        command: str | Sequence[str],
        *,
        exec_id: str | None,
        stdin: bool,
        pty: TerminalSize | None,
        cwd: str | None,
        env: Mapping[str, str] | None,
        timeout: float | None,
        max_output: int,
        tag: str | None,
    ) -> BubblewrapSpawned:
        """Start a process; see `tumbler.contracts.sandbox_process.SpawningSandbox.spawn`."""
        self._box.require()
        words = words_of(command)

        async def start(name: str) -> BubblewrapSpawned:
            record = SpawnRecord(name, words, max_output=max_output, tag=tag)
            wires = PipeWires(self._box, record, stdin=stdin) if pty is None else TerminalWires(record, pty)
            spawned = await self._start(record, wires, cwd, dict(env or {}))
            self._box.watch(spawned.watch(timeout))
            return spawned

        return await self._book.spawn(exec_id, start)

    async def process(self, exec_id: str) -> BubblewrapSpawned:
        """Return a process spawned before; raise `ProcessLookupError` if there is none."""
        self._box.require()
        return await self._book.get(exec_id)

    async def processes(self) -> Sequence[ProcessInfo]:
        """Return the spawned processes, oldest first."""
        self._box.require()
        return self._book.infos()

    async def _start(
        self, record: SpawnRecord, wires: Wires, cwd: str | None, env: dict[str, str]
    ) -> BubblewrapSpawned:
        box = self._box
        folder = posixpath.join(box.layout.workdir, cwd or ".")
        script = Script(box.layout.control, box.number(), spawn_text(record.command, folder, wires.redirections))
        process: BubblewrapProcess | None = None
        try:
            process = await wires.start(box, env)
            kills = box.out_of_memory_kills()
            said = await _first_word(process, script, box.spec.startup_timeout)
            if said == LOST:
                raise lost_folder(folder)
            wires.opened()
            return BubblewrapSpawned(box, record, process, wires, kills)
        except BaseException:
            if process is not None:
                process.kill()
            wires.finish()
            box.require()
            raise
        finally:
            script.remove()


async def _first_word(process: BubblewrapProcess, script: Script, timeout: float) -> bytes:
    """Let the runner run its script; return what it says at first, or nothing where it ends before."""
    said = bytearray()
    spoken = asyncio.get_running_loop().create_future()

    def hear(words: bytes) -> None:
        said.extend(words[: MOST_SAID - len(said)])
        if not spoken.done():
            spoken.set_result(None)

    process.listen(hear)
    process.send(script.word)
    await asyncio.wait((spoken, process.dead), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    return bytes(said)
