"""Recipes for what a run does in other processes: they load its plugins again there and build the same components."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, cast

from tumbler.contracts.agent import PreparingAgent
from tumbler.contracts.execution import DistributedExecution, Engines, EpisodeRunner, ExecutionBackend, PlacedRole
from tumbler.contracts.gateway import ModelGateway
from tumbler.contracts.sandbox import SandboxBackend
from tumbler.contracts.values import JSONObject
from tumbler.errors import RunError
from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedComponent, ResolvedRun, run_from_json
from tumbler.rollout.runner import LocalEpisodeRunner
from tumbler.run.assembly import Backends, build_environments, episode_parts

__all__ = ["PlacedComponent", "PlacedEpisodes", "distributed_by", "open_episodes", "place_engines"]

_Engine = TypeVar("_Engine", bound=object)


@dataclass(frozen=True, kw_only=True)
class PlacedComponent:
    """The `ComponentRecipe` of one component of a run."""

    run: JSONObject
    """The resolved run, as in `run.json`."""
    versions: dict[str, tuple[str, str]]
    """Plugin → (distribution, version) in the process that began the run."""
    role: PlacedRole
    resume: str
    """The command that goes on with the run."""

    def build(self) -> object:
        """Return the component, built from plugins that are loaded here."""
        resolved, host = _loaded(self.run, self.versions)
        component = _component(resolved, self.role)
        if component is None:
            raise RunError(f"run {resolved.name!r} names nothing for the role {self.role!r}")
        return component.build(host)


@dataclass(frozen=True, kw_only=True)
class PlacedEpisodes:
    """The `WorkerRecipe` of a run."""

    run: JSONObject
    versions: dict[str, tuple[str, str]]

    def open(self, engines: Engines) -> AbstractAsyncContextManager[EpisodeRunner]:
        """Start what episodes need in this process, and yield what runs one."""
        return self._open(engines)

    @asynccontextmanager
    async def _open(self, engines: Engines) -> AsyncIterator[EpisodeRunner]:
        resolved, host = _loaded(self.run, self.versions)
        async with AsyncExitStack() as stack:
            sandboxes = cast("SandboxBackend | None", _build(resolved.backends.get("sandbox"), host))
            if sandboxes is not None:
                stack.push_async_callback(sandboxes.close)
                await sandboxes.start()
            gateway = cast("ModelGateway | None", _build(resolved.backends.get("gateway"), host))
            if gateway is not None:
                stack.push_async_callback(gateway.close)
                await gateway.start()
            yield await stack.enter_async_context(open_episodes(resolved, host, engines, sandboxes, gateway))


@asynccontextmanager
async def open_episodes(
    resolved: ResolvedRun,
    host: PluginHost,
    engines: Engines,
    sandboxes: SandboxBackend | None,
    gateway: ModelGateway | None,
) -> AsyncIterator[LocalEpisodeRunner]:
    """Yield what runs the run's episodes in this process; engines, sandboxes and gateway are started."""
    parts = episode_parts(
        resolved,
        host,
        build_environments(resolved, host),
        tokenizer=engines.policy.tokenizer,
        inference=engines.policy,
        sandboxes=sandboxes,
        teacher=engines.teacher,
        gateway=gateway,
    )
    if isinstance(parts.agent, PreparingAgent):
        await parts.agent.prepare()
    runner = LocalEpisodeRunner(parts)
    try:
        yield runner
    finally:
        await runner.close()


def distributed_by(execution: ExecutionBackend) -> DistributedExecution | None:
    """Return the backend if it runs rollouts in other processes."""
    return execution if isinstance(execution, DistributedExecution) and execution.distributed else None


async def place_engines(backends: Backends, resolved: ResolvedRun, host: PluginHost, *, folder: Path) -> Backends:
    """Return the backends with stand-ins for those that the execution backend runs elsewhere.

    `folder` is the run's, for messages that say how to go on with it.
    """
    distributed = distributed_by(backends.execution)
    if distributed is None:
        return backends
    run, versions, resume = resolved.to_json(), host.versions(), f"tumbler run --resume {folder}"

    async def place(role: PlacedRole, here: _Engine) -> _Engine:
        if here is None:
            return here
        stand_in = await distributed.place(PlacedComponent(run=run, versions=versions, role=role, resume=resume))
        return here if stand_in is None else cast("_Engine", stand_in)

    return replace(
        backends,
        inference=await place("inference", backends.inference),
        teacher=await place("teacher", backends.teacher),
        training=await place("training", backends.training),
    )


def _component(resolved: ResolvedRun, role: PlacedRole) -> ResolvedComponent | None:
    return resolved.rl.experts.teacher if role == "teacher" else resolved.backends.get(role)


def _build(component: ResolvedComponent | None, host: PluginHost) -> object | None:
    return None if component is None else component.build(host)


def _loaded(run: JSONObject, versions: dict[str, tuple[str, str]]) -> tuple[ResolvedRun, PluginHost]:
    """Return the run and its plugins as they are loaded here; each must be of the version that began the run."""
    resolved = run_from_json(run)
    host = PluginHost.load(allow=resolved.plugins.allow, disable=resolved.plugins.disable)
    here = host.versions()
    used = {each.plugin for each in _used(resolved)}
    other = [
        f"{name} is {' '.join(here.get(name, ('not', 'loaded')))} here and {' '.join(versions[name])} there"
        for name in sorted(used & versions.keys())
        if here.get(name) != versions[name]
    ]
    if other:
        raise RunError(
            f"the plugins of this process are not those of the one that began run {resolved.name!r}: "
            f"{'; '.join(other)}. Install the same versions wherever the run works"
        )
    return replace(resolved, versions=dict(versions)), host


def _used(resolved: ResolvedRun) -> list[ResolvedComponent]:
    """Return every component that another process may build or, like the algorithm, be handed."""
    teacher, algorithm = resolved.rl.experts.teacher, resolved.algorithm
    return [
        resolved.env,
        resolved.agent,
        *resolved.context,
        resolved.sft.env,
        resolved.rl.env,
        *resolved.eval.envs,
        *resolved.backends.values(),
        *(each for each in (teacher, algorithm) if each is not None),
    ]
