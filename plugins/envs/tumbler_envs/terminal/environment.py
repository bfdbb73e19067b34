"""The environment `terminal`: one episode from the layout of the files to the verdict."""

import asyncio
from collections.abc import Sequence

from tumbler.contracts.environment import (
    EnvironmentCapabilities,
    Expert,
    Observation,
    StepResult,
    Task,
    Verdict,
)
from tumbler.contracts.sandbox import Sandbox, SandboxSpec
from tumbler.contracts.sandbox_control import ControlledSandbox
from tumbler.contracts.values import JSON, ToolCall, ToolSpec
from tumbler.errors import CapabilityError, ContractError, SessionEnded
from tumbler_envs.terminal.expert import CommandsExpert
from tumbler_envs.terminal.rendering import ended, render
from tumbler_envs.terminal.sandboxing import spec_of, verifier_network
from tumbler_envs.terminal.settings import TerminalSettings, ToolName
from tumbler_envs.terminal.shell import TaskShell
from tumbler_envs.terminal.sources import open_source
from tumbler_envs.terminal.task import TEST_SCRIPT, TerminalTask
from tumbler_envs.terminal.tools import SHELL, WRITE_FILE, missing_argument, specs_of, write_file
from tumbler_envs.terminal.verification.interpreter import require_interpreter
from tumbler_envs.terminal.verification.judging import judge

__all__ = ["TerminalEnvironment"]


class TerminalEnvironment:
    """Tasks in a terminal, judged by tests that enter the sandbox when the agent is done."""

    def __init__(self, settings: TerminalSettings) -> None:
        """Keep the settings; an episode begins with `reset`."""
        self._settings = settings
        self._source = open_source(settings)
        self._task: TerminalTask | None = None
        self._sandbox: Sandbox | None = None
        self._shell: TaskShell | None = None

    @property
    def capabilities(self) -> EnvironmentCapabilities:
        """Say that a sandbox is needed, and that equal calls are to give equal observations.

        Drawn tasks keep that; a folder's may print times and process ids, which a replay finds out.
        """
        return EnvironmentCapabilities(needs_sandbox=True)

    async def tasks(self, split: str, *, count: int, seed: int) -> Sequence[Task]:
        """Return tasks of the split "train" or "held-out": the folder's, in the seed's order, or drawn from it."""
        return await asyncio.to_thread(self._source.tasks, split, count=count, seed=seed)

    def tools(self) -> Sequence[ToolSpec]:
        """Return the tools that the settings offer."""
        return specs_of(self._settings.tools)

    def sandbox_spec(self, task: Task) -> SandboxSpec | None:
        """Return the sandbox that the task asks for, with its files."""
        return spec_of(self._source.load(task), self._settings)

    async def reset(self, task: Task, *, seed: int, sandbox: Sandbox | None) -> Observation:
        """Make scripts executable and see that the tests can run; the instruction says the rest, the seed nothing."""
        loaded, sandbox = await self._take_up(task, sandbox)
        for path, file in loaded.files.items():
            if file.executable:
                await sandbox.write(f"{loaded.workdir}/{path}", file.content, mode=file.mode)
        await require_interpreter(sandbox, loaded.tests[TEST_SCRIPT])
        if verifier_network(loaded, self._settings) is not None and not isinstance(sandbox, ControlledSandbox):
            raise CapabilityError("the tests need another network than the agent, which this sandbox cannot change to")
        return Observation()

    async def state(self) -> JSON:
        """Return the shell's state: its folder, variables, functions and the like.

        Raises `CapabilityError` where something runs in the background of the shell.
        """
        return await self._running()[2].state()

    async def resume(self, task: Task, *, seed: int, sandbox: Sandbox | None, state: JSON) -> None:
        """Open a shell over the copied files and bring it into that state."""
        await self._take_up(task, sandbox)
        await self._running()[2].restore(state)

    async def fingerprint(self) -> str:
        """Return a digest of the shell's state and of the files in the working folder."""
        task, _, shell = self._running()
        return await shell.fingerprint(task.workdir)

    async def step(self, call: ToolCall) -> StepResult:
        """Carry out one call. A time-out and a shell that has ended are observations like any other."""
        task, sandbox, shell = self._running()
        name: ToolName | None = next((name for name in self._settings.tools if name == call.name), None)
        if name is None:
            return _refusal(f"there is no tool {call.name!r}; there is {', '.join(self._settings.tools)}")
        if missing := missing_argument(name, dict(call.arguments)):
            return _refusal(f"{name} needs the argument {missing}: a text")
        if name == WRITE_FILE:
            return await self._write(sandbox, str(call.arguments["path"]), str(call.arguments["content"]), task.workdir)
        return await self._run(shell, str(call.arguments["command"]))

    async def verify(self) -> Verdict:
        """End all that runs in the sandbox, bring the tests in, and judge by what they say.

        It needs no step before it: a scaffold may work in the sandbox without this environment's tools.
        """
        task, sandbox, shell = self._running()
        await shell.close()
        return await judge(sandbox, task, self._settings, network=verifier_network(task, self._settings))

    async def close(self) -> None:
        """Close the shell."""
        shell, self._shell = self._shell, None
        if shell is not None:
            await shell.close()

    def expert(self, task: Task, *, seed: int) -> Expert:
        """Return a teacher that runs the task's own solution; raise `ContractError` for a task that has none."""
        solution = self._source.load(task).solution
        if not solution:
            raise ContractError(
                f"task {task.id!r} has no expert: that needs a solution/solve.sh and no other file beside it"
            )
        return CommandsExpert(solution, tool=SHELL)

    async def _take_up(self, task: Task, sandbox: Sandbox | None) -> tuple[TerminalTask, Sandbox]:
        await self.close()
        if sandbox is None:
            raise ContractError("terminal was reset without a sandbox; create one from sandbox_spec")
        self._task = await asyncio.to_thread(self._source.load, task)
        self._sandbox = sandbox
        self._shell = TaskShell(sandbox, timeout=self._settings.command_timeout)
        return self._task, sandbox

    async def _run(self, shell: TaskShell, command: str) -> StepResult:
        limit, timeout = self._settings.observation_limit, self._settings.command_timeout
        try:
            result = await shell.run(command)
        except SessionEnded as error:
            status = error.exit_status
            said = ended(error.partial, status, limit=limit)
            return StepResult(observation=said, errored=status != 0, info={"exit_code": status, "shell_ended": True})
        return StepResult(
            observation=render(result, limit=limit, timeout=timeout),
            errored=result.exit_code != 0 or result.timed_out,
            info={"exit_code": result.exit_code, "timed_out": result.timed_out},
        )

    async def _write(self, sandbox: Sandbox, path: str, content: str, workdir: str) -> StepResult:
        try:
            result = await write_file(sandbox, path, content, cwd=workdir)
        except (FileNotFoundError, NotADirectoryError):
            return _refusal(f"the folder {workdir} is gone")
        if result.exit_code == 0 and not result.timed_out:
            return StepResult(observation=f"wrote {len(content.encode())} bytes to {path}")
        shown = render(result, limit=self._settings.observation_limit, timeout=result.duration)
        return StepResult(observation=shown, errored=True)

    def _running(self) -> tuple[TerminalTask, Sandbox, TaskShell]:
        if self._task is None or self._sandbox is None or self._shell is None:
            raise ContractError(
                "terminal was used before reset or after close; an episode is reset, step…, verify, close"
            )
        return self._task, self._sandbox, self._shell


def _refusal(text: str) -> StepResult:
    return StepResult(observation=text, errored=True)
