"""An agent that is a program: the episode around it. What each program needs is in its own module.

Subclass `ProgramAgent` and override `plan`; `judge` where the program tells more than its exit code, and `install` for
what must be done in each sandbox.
"""

import asyncio
import logging
import posixpath
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from tumbler.contracts.agent import EndReason, Episode, HostingEpisode, Outcome
from tumbler.contracts.sandbox import Mount, Sandbox, SandboxSpec
from tumbler.contracts.sandbox_process import Process
from tumbler.errors import ContractError, SandboxDied
from tumbler_agents.process.files import make_folder, read_file
from tumbler_agents.process.filling import fill
from tumbler_agents.process.launching import Asked, Launch, start, tail
from tumbler_agents.process.outcome import Ended, details_of, reason_of
from tumbler_agents.process.packages.cache import PackageCache, default_cache
from tumbler_agents.process.packages.installing import NODE, install, key_of
from tumbler_agents.process.packages.settings import PackageSettings
from tumbler_agents.process.relay.opening import OpenRelay, open_relay
from tumbler_agents.process.settings import ProgramSettings

__all__ = ["ProgramAgent"]

_LOG = logging.getLogger("tumbler.agents.process")
_SHARE_OF_TIME: Final = 0.9
_FILE_BYTES: Final = 8 << 20


class ProgramAgent:
    """Runs a program in the episode's sandbox, with the recorded policy for its model."""

    name = "process"
    """The name of the folder of its installed packages."""

    def __init__(self, settings: ProgramSettings) -> None:
        """Keep the settings."""
        self._shared = settings
        self._installing = asyncio.Lock()
        self._installed: Path | None = None

    @property
    def packages(self) -> PackageSettings:
        """Return what is installed for it; override it where that is not all in the settings' `packages`."""
        return self._shared.packages

    def plan(self, asked: Asked) -> Launch:
        """Override: return how the program is started."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its program is started; override plan")

    def judge(self, ended: Ended) -> EndReason | None:
        """Override it where the program's own words tell why it stopped; None leaves that to its exit code."""
        return None

    def own_env(self, values: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of the settings, filled in."""
        return {name: fill(value, values) for name, value in self._shared.env.items()}

    async def prepare(self) -> Path | None:
        """Install the program on this machine unless that is done, which may take minutes; return its folder."""
        if not self.packages.wanted or self.packages.in_image:
            return None
        async with self._installing:
            if self._installed is None or not self._installed.is_dir():
                self._installed = await asyncio.to_thread(self._provide)
        return self._installed

    async def adapt_sandbox(self, spec: SandboxSpec) -> SandboxSpec:
        """Return the spec with the installed program in it, read-only."""
        folder = await self.prepare()
        if folder is None:
            return spec
        return replace(spec, mounts=(*spec.mounts, Mount(source=str(folder), target=self.packages.target)))

    async def run(self, episode: Episode) -> Outcome:
        """Run the program until it ends, its time is over, or the gateway answers no more."""
        hosting, sandbox = _hosting(episode)
        words = {"instruction": episode.task.instruction, "observation": episode.observation.text}
        prompt = fill(self._shared.prompt, words).strip()
        interpreters = [f"{self.packages.target}/{NODE}/bin/node"] if self.packages.node is not None else []
        async with hosting.serve() as endpoint:
            folder = await self.install(sandbox)
            async with open_relay(sandbox, endpoint, folder=folder, interpreters=interpreters) as way:
                asked = Asked(endpoint=way.endpoint, prompt=prompt, turns=episode.limits.turns, folder=folder)
                process = await self.launch(sandbox, asked)
                ended = await self._until_end(process, way, episode.limits.seconds * _SHARE_OF_TIME)
        if ended.relay_failure and not await sandbox.alive():
            raise SandboxDied(f"the sandbox died while the program ran in it: {ended.relay_failure}")
        ended = replace(ended, files=await self.collect(sandbox, folder))
        return self._outcome(ended, episode)

    async def install(self, sandbox: Sandbox) -> str:
        """Make the folder of the program's own files and return its path inside.

        What an override does beyond that is done in each sandbox before the launch.
        """
        return await make_folder(sandbox)

    async def launch(self, sandbox: Sandbox, asked: Asked) -> Process:
        """Start the program in the sandbox's working directory."""
        return await start(sandbox, self.plan(asked), asked)

    async def collect(self, sandbox: Sandbox, folder: str) -> Mapping[str, bytes]:
        """Return the files that the program has left, by the names that the settings give them."""
        found: dict[str, bytes] = {}
        for name in self.collected:
            content = await read_file(sandbox, posixpath.join(folder, name), limit=_FILE_BYTES)
            if content is None:
                _LOG.info("the program has left no file %s", name)
            else:
                found[name] = content
        return found

    @property
    def collected(self) -> tuple[str, ...]:
        """Return which files are collected; override it for those that `judge` reads."""
        return self._shared.collect

    async def _until_end(self, process: Process, way: OpenRelay, seconds: float) -> Ended:
        """Wait for the program within its time; end it, and all that it has started, in any case."""
        seconds = min(seconds, self._shared.seconds or seconds)
        waits = [asyncio.create_task(process.wait()), asyncio.create_task(way.relay.ended())]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            alone, lost = waits[0].done(), waits[1].done()
        finally:
            for wait in waits:
                wait.cancel()
            exit_ = await process.kill()
        return Ended(
            exit=replace(exit_, timed_out=exit_.timed_out or not (alone or lost)),
            connections=way.relay.accepted,
            output=await tail(process, "stdout", self._shared.log_bytes),
            errors=await tail(process, "stderr", self._shared.log_bytes),
            relay_failure="" if alone else way.relay.failure,
        )

    def _outcome(self, ended: Ended, episode: Episode) -> Outcome:
        calls = episode.calls if isinstance(episode, HostingEpisode) else ()
        reason = reason_of(ended, self.judge(ended), calls)
        return Outcome(reason=reason, details={"program": details_of(ended, self._shared.log_bytes)})

    def _provide(self) -> Path:
        packages = self.packages
        cache = PackageCache((packages.cache or default_cache()).expanduser().absolute())
        return cache.provide(self.name, key_of(packages), lambda folder: install(packages, folder))


def _hosting(episode: Episode) -> tuple[HostingEpisode, Sandbox]:
    if not isinstance(episode, HostingEpisode):
        raise ContractError("the agent is a program, and this episode has no sandbox and no gateway to run it against")
    if episode.sandbox is None:
        raise ContractError(
            "the agent is a program that runs in the environment's sandbox, and this environment has none; "
            "choose one that does its tasks in a sandbox, such as terminal"
        )
    return episode, episode.sandbox
