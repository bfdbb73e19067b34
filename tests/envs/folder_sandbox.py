"""The smallest sandbox that keeps the contract well enough for `trail`: bash in a folder, not isolated at all."""

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

from tumbler.contracts.sandbox import ExecResult
from tumbler.errors import SessionEnded

WORKDIR = "/work"
ENVIRONMENT = {"LC_ALL": "C", "PATH": os.environ["PATH"], "HOME": "/"}

LOOP = """
while IFS= read -r -d '' line; do eval "$line" </dev/null >"$1" 2>"$2"; printf '%d\\n' $? >&{fd}; done
"""


class FolderSession:
    def __init__(self, sandbox):
        self.sandbox = sandbox
        self.process = None

    async def start(self):
        self.reader, writer = os.pipe()
        self.process = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            LOOP.format(fd=writer),
            "bash",
            str(self.sandbox.outside / "out"),
            str(self.sandbox.outside / "err"),
            stdin=asyncio.subprocess.PIPE,
            cwd=self.sandbox.folder,
            env=ENVIRONMENT,
            pass_fds=[writer],
            start_new_session=True,
        )
        os.close(writer)

    async def run(self, command, *, timeout=60.0, max_output=1 << 20):
        if self.process is None:
            raise SessionEnded("closed")
        start = time.monotonic()
        self.process.stdin.write(self.sandbox.inward(command.encode()) + b"\0")
        reading = asyncio.to_thread(os.read, self.reader, 16)
        try:
            status = await asyncio.wait_for(asyncio.shield(reading := asyncio.ensure_future(reading)), timeout)
        except TimeoutError:
            await self.close()
            await reading
            await self.start()
            return self.result(124, start, max_output, timed_out=True)
        if not status:
            code = await self.process.wait()
            raise SessionEnded("exited", code)
        return self.result(int(status), start, max_output)

    def result(self, code, start, max_output, *, timed_out=False):
        stdout, stderr = (
            self.sandbox.outward((self.sandbox.outside / name).read_bytes()[:max_output]) for name in ("out", "err")
        )
        duration = time.monotonic() - start
        return ExecResult(exit_code=code, stdout=stdout, stderr=stderr, duration=duration, timed_out=timed_out)

    async def close(self):
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        self.process.stdin.close()
        self.process = None


class FolderSandbox:
    id = "folder"
    tier = "process"

    def __init__(self, root: Path, spec):
        self.folder = root / "inside"
        self.outside = root / "outside"
        self.folder.mkdir(parents=True)
        self.outside.mkdir()
        self.sessions = []
        self.executed = []
        self.environment = dict(ENVIRONMENT)
        for path, content in spec.files.items():
            (self.folder / Path(path).relative_to(WORKDIR)).write_bytes(content)

    def inward(self, data):
        return data.replace(WORKDIR.encode(), str(self.folder).encode())

    def outward(self, data):
        return data.replace(str(self.folder).encode(), WORKDIR.encode())

    async def exec(self, command, *, cwd=None, timeout=60.0, max_output=10 << 20):
        self.executed.append(tuple(command))
        argv = [self.inward(word.encode()) for word in command]
        process = await asyncio.create_subprocess_exec(
            *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=cwd, env=self.environment
        )
        stdout, stderr = await process.communicate()
        return ExecResult(exit_code=process.returncode, stdout=stdout, stderr=stderr, duration=0.0)

    async def session(self):
        session = FolderSession(self)
        await session.start()
        self.sessions.append(session)
        return session

    async def delete(self):
        for session in self.sessions:
            await session.close()
            os.close(session.reader)
