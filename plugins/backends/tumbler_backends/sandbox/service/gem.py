"""Environments for other trainers: make, reset, step and close with texts, as in GEM; knows no HTTP."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from tumbler.contracts.environment import Environment, StepResult, Task
from tumbler.contracts.sandbox_service import EnvironmentSource
from tumbler.contracts.values import JSON, JSONObject
from tumbler.errors import ContractError, EpisodeError, QuotaExceeded, SandboxNotFound, TumblerError
from tumbler_backends.sandbox.service.actions import FINISH, call_of, first_observation
from tumbler_backends.sandbox.service.holdings import Held, Holdings
from tumbler_backends.sandbox.service.tenants import Tenant

__all__ = ["OpenEnvironment", "OpenEnvironments", "Turn"]

_SWEEP_S: Final = 5.0

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one action brought about."""

    observation: str
    reward: float
    terminated: bool
    truncated: bool
    info: JSONObject


@dataclass(kw_only=True)
class OpenEnvironment:
    """One instance: an environment, its task, and the episode that runs."""

    id: str
    tenant: Tenant
    environment: Environment
    split: str
    max_turns: int
    holdings: Holdings
    held: Held | None = None
    task: Task | None = None
    turns: int = 0
    used: float = field(default_factory=time.monotonic)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def reset(self, seed: int) -> tuple[str, JSONObject]:
        """Begin a new episode: the task that the seed draws; return the first observation and more about it."""
        async with self._use():
            await self._end()
            (task,) = await _guarded(lambda: self._tasks(seed))
            spec = self.environment.sandbox_spec(task)
            if spec is not None:
                labelled = replace(spec, labels={**spec.labels, "environment": self.id})
                self.held = await self.holdings.create(labelled, self.tenant)
            sandbox = None if self.held is None else self.held.sandbox
            observation = await _guarded(lambda: self.environment.reset(task, seed=seed, sandbox=sandbox))
            self.task, self.turns = task, 0
            info: dict[str, JSON] = {"task": task.id, "instruction": task.instruction, "max_turns": self.max_turns}
            return first_observation(task, observation, self.environment.tools()), info

    async def step(self, action: str) -> Turn:
        """Carry out one action; the verdict's reward comes with the last one."""
        async with self._use():
            if self.task is None:
                raise ContractError("this environment has no running episode; reset it first")
            self.turns += 1
            tools = self.environment.tools()
            call = call_of(action, tools)
            if call is not None and call.name == FINISH and all(tool.name != FINISH for tool in tools):
                return await self._verdict(StepResult(observation="", terminated=True))
            if call is None:
                how = f'no tool call could be read; reply with {{"name": …, "arguments": {{…}}}} or name {FINISH!r}'
                result = StepResult(observation=how, errored=True)
            else:
                result = await _guarded(lambda: self.environment.step(call))
            if self.turns >= self.max_turns and not result.terminated:
                result = replace(result, truncated=True)
            return await self._verdict(result) if result.terminated or result.truncated else _turn(result)

    async def close(self) -> None:
        """Close the environment and delete its sandbox."""
        async with self.lock:
            await self._end()

    def _use(self) -> "_Use":
        return _Use(self)

    async def _tasks(self, seed: int) -> Sequence[Task]:
        tasks = await self.environment.tasks(self.split, count=1, seed=seed)
        if not tasks:
            raise EpisodeError(f"the environment has no task in the split {self.split!r}")
        return tasks[:1]

    async def _verdict(self, result: StepResult) -> Turn:
        verdict = await _guarded(self.environment.verify)
        self.task = None
        info = {**result.info, "success": verdict.success, "verdict": verdict.reward, **verdict.details}
        return _turn(replace(result, reward=result.reward + verdict.reward, info=info))

    async def _end(self) -> None:
        self.task = None
        try:
            await _guarded(self.environment.close)
        finally:
            held, self.held = self.held, None
            if held is not None:
                await self.holdings.delete(held)


@dataclass
class _Use:
    """One call at a time, each of which puts the instance's expiry off."""

    opened: OpenEnvironment

    async def __aenter__(self) -> None:
        await self.opened.lock.acquire()
        self.opened.used = time.monotonic()

    async def __aexit__(self, *_: object) -> None:
        self.opened.used = time.monotonic()
        self.opened.lock.release()


class OpenEnvironments:
    """The instances of all tenants."""

    def __init__(self, source: EnvironmentSource, holdings: Holdings, idle: float) -> None:
        """Close instances that were not used for `idle` seconds, from the time that `sweep` runs."""
        self._source = source
        self._holdings = holdings
        self._idle = idle
        self._open: dict[str, OpenEnvironment] = {}

    def names(self) -> Sequence[str]:
        """Return the environments that can be made."""
        return self._source.names()

    def make(self, name: str, settings: JSONObject, *, split: str, max_turns: int, tenant: Tenant) -> OpenEnvironment:
        """Make an instance; `reset` begins its first episode."""
        if sum(each.tenant is tenant for each in self._open.values()) >= tenant.quota.max_environments:
            raise QuotaExceeded(
                f"this token's quota is {tenant.quota.max_environments} open environments; close some first"
            )
        opened = OpenEnvironment(
            id=secrets.token_hex(8),
            tenant=tenant,
            environment=self._source.build(name, settings),
            split=split,
            max_turns=max_turns,
            holdings=self._holdings,
        )
        self._open[opened.id] = opened
        return opened

    def get(self, identity: str, tenant: Tenant) -> OpenEnvironment:
        """Return the tenant's instance; raises `SandboxNotFound`."""
        opened = self._open.get(identity)
        if opened is None or opened.tenant is not tenant:
            raise SandboxNotFound(f"there is no open environment {identity!r}; it was closed, or unused for too long")
        return opened

    async def close(self, opened: OpenEnvironment) -> None:
        """Close one instance."""
        self._open.pop(opened.id, None)
        await opened.close()

    async def close_all(self) -> None:
        """Close every instance; one that fails does not keep the others open."""
        await asyncio.gather(*(self.close(each) for each in tuple(self._open.values())), return_exceptions=True)

    async def sweep(self) -> None:
        """Close what is idle, until cancelled."""
        while True:
            await asyncio.sleep(min(_SWEEP_S, self._idle))
            limit = time.monotonic() - self._idle
            for opened in tuple(self._open.values()):
                if opened.used < limit and not opened.lock.locked():
                    with contextlib.suppress(TumblerError):
                        await self.close(opened)


async def _guarded(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """Run an environment's code; whatever it raises becomes an error of Tumbler's."""
    try:
        return await call()
    except TumblerError:
        raise
    except Exception as error:  # third-party code
        raise EpisodeError(f"the environment failed: {type(error).__name__}: {error}") from error


def _turn(result: StepResult) -> Turn:
    return Turn(
        observation=result.observation,
        reward=result.reward,
        terminated=result.terminated,
        truncated=result.truncated,
        info={**result.info, "errored": result.errored},
    )
