"""The environment `trail`: one episode from the layout of the files to the verdict."""

from collections.abc import Sequence

from tumbler.contracts.environment import (
    EnvironmentCapabilities,
    Expert,
    Observation,
    StepResult,
    Task,
    Verdict,
)
from tumbler.contracts.sandbox import Resources, Sandbox, SandboxSpec
from tumbler.contracts.values import JSON, ToolCall, ToolSpec
from tumbler.errors import ContractError
from tumbler_envs.trail.expert import TrailExpert
from tumbler_envs.trail.generation import generate_tasks
from tumbler_envs.trail.layout import WORKDIR, Trail
from tumbler_envs.trail.settings import TrailSettings
from tumbler_envs.trail.shell import SessionShell, Shell, render
from tumbler_envs.trail.twin.shell import TwinShell
from tumbler_envs.trail.verification import Found, judge, look

__all__ = ["TOOL", "TrailEnvironment"]

TOOL = "shell"

_TOOLS = (
    ToolSpec(
        name=TOOL,
        description="It prints the output, and the exit code if the command failed.",
        parameters={
            "type": "object",
            "properties": {"command": {"type": "string", "description": "One command line."}},
            "required": ["command"],
            "additionalProperties": False,
        },
    ),
)

_RESOURCES = Resources(memory_bytes=256 << 20, processes=64, open_files=256)


class TrailEnvironment:
    """Long-horizon tasks in a shell, real or imitated."""

    def __init__(self, settings: TrailSettings) -> None:
        """Keep the settings; an episode begins with `reset`."""
        self._settings = settings
        self._trail: Trail | None = None
        self._shell: Shell | None = None
        self._sandbox: Sandbox | None = None

    @property
    def capabilities(self) -> EnvironmentCapabilities:
        """Say whether a sandbox is needed; equal calls always give equal observations."""
        return EnvironmentCapabilities(needs_sandbox=self._settings.shell == "sandbox")

    async def tasks(self, split: str, *, count: int, seed: int) -> Sequence[Task]:
        """Return `count` different tasks of the split "train" or "held-out"; there is no end of them."""
        return generate_tasks(self._settings, split, count=count, seed=seed)

    def tools(self) -> Sequence[ToolSpec]:
        """Return the shell."""
        return _TOOLS

    def sandbox_spec(self, task: Task) -> SandboxSpec | None:
        """Return a small sandbox without network that starts with the task's files, or None for the twin."""
        if self._settings.shell == "twin":
            return None
        files = {f"{WORKDIR}/{name}": data for name, data in Trail.from_task(task).contents.items()}
        return SandboxSpec(workdir=WORKDIR, env={"LC_ALL": "C"}, resources=_RESOURCES, files=files)

    async def reset(self, task: Task, *, seed: int, sandbox: Sandbox | None) -> Observation:
        """Open the shell; the files already lie there, and the instruction says it all. The seed changes nothing."""
        await self.close()
        self._trail = Trail.from_task(task)
        self._sandbox = sandbox
        if self._settings.shell == "twin":
            self._shell = TwinShell(self._trail)
        elif sandbox is None:
            raise ContractError(
                'trail with shell = "sandbox" was reset without a sandbox; create one from sandbox_spec'
            )
        else:
            self._shell = SessionShell(await sandbox.session(), timeout=self._settings.command_timeout)
        return Observation()

    async def state(self) -> JSON:
        """Return the shell's state: its folder, variables, functions and the like; of the twin, the files written.

        Raises `CapabilityError` where something runs in the background of the shell.
        """
        return await self._running()[1].state()

    async def resume(self, task: Task, *, seed: int, sandbox: Sandbox | None, state: JSON) -> None:
        """Open a shell over the copied files and bring it into that state."""
        await self.reset(task, seed=seed, sandbox=sandbox)
        await self._running()[1].restore(state)

    async def fingerprint(self) -> str:
        """Return a digest of the shell's state and of the files in the work folder."""
        return await self._running()[1].fingerprint(WORKDIR)

    async def step(self, call: ToolCall) -> StepResult:
        """Run one command. A time-out and a shell that has ended are observations like any other."""
        shell = self._running()[1]
        command = call.arguments.get("command")
        if call.name != TOOL:
            return StepResult(observation=f"there is no tool {call.name!r}; use {TOOL}", errored=True)
        if not isinstance(command, str) or not command.strip() or "\0" in command:
            return StepResult(observation=f"{TOOL} needs the argument command: one line of text", errored=True)
        output = await shell.run(command)
        return StepResult(
            observation=render(output, limit=self._settings.observation_limit),
            terminated=output.ended,
            errored=output.errored,
            info={"unsupported": True} if output.unsupported else {"exit_code": output.exit_code},
        )

    async def verify(self) -> Verdict:
        """End the shell, with all that it started, and judge what was written down."""
        trail, shell = self._running()
        await shell.close()
        if isinstance(shell, TwinShell):
            written = shell.read(trail.output)
            found = Found(kind="missing") if written is None else Found(kind="file", text=written.decode())
        elif self._sandbox is None:
            raise ContractError("trail was asked for a verdict after close; call verify first")
        else:
            found = await look(self._sandbox, trail.output)
        return judge(found, trail, self._settings)

    async def close(self) -> None:
        """Close the shell."""
        shell, self._shell = self._shell, None
        if shell is not None:
            await shell.close()

    def expert(self, task: Task, *, seed: int) -> Expert:
        """Return a teacher that errs with the probability `noise`."""
        settings = self._settings
        return TrailExpert(task, seed=seed, noise=settings.noise, tool=TOOL, fork=settings.fork)

    def _running(self) -> tuple[Trail, Shell]:
        if self._trail is None or self._shell is None:
            raise ContractError("trail was used before reset or after close; an episode is reset, step…, verify, close")
        return self._trail, self._shell
