"""The environment's contract: steps, specs, errors, and the plugin that registers it."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from tumbler.contracts.environment import Environment, Expert, ExpertEnvironment
from tumbler.contracts.values import ToolCall
from tumbler.errors import ContractError, SandboxDied
from tumbler_envs.trail.environment import TrailEnvironment
from tumbler_envs.trail.generation import generate_tasks
from tumbler_envs.trail.layout import Trail
from tumbler_envs.trail.settings import TrailSettings
from tumbler_envs.trail.shell import Output, render

TASK = generate_tasks(TrailSettings(), "train", count=1, seed=0)[0]


def test_the_entry_point_registers_the_environment():
    (entry,) = entry_points(group="tumbler.v1", name="trail")
    (spec,) = entry.load().tumbler_environments()
    assert (spec.name, spec.config(), spec.load()) == ("trail", TrailSettings, TrailEnvironment)
    environment = spec.load()(spec.config()())
    assert isinstance(environment, Environment)
    assert isinstance(environment, ExpertEnvironment)
    assert isinstance(environment.expert(TASK, seed=0), Expert)


def test_importing_the_plugin_imports_nothing_heavy():
    script = "import sys, tumbler_envs.trail.plugin; print(*({'pydantic', 'torch', 'transformers'} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert output.stdout.split() == []


def test_the_twin_needs_no_sandbox_and_the_real_shell_a_small_closed_one():
    twin, real = (TrailEnvironment(TrailSettings(shell=shell)) for shell in ("twin", "sandbox"))
    assert (twin.capabilities.needs_sandbox, real.capabilities.needs_sandbox) == (False, True)
    assert twin.sandbox_spec(TASK) is None
    spec = real.sandbox_spec(TASK)
    assert spec.network.mode == "none"
    assert spec.resources.memory_bytes <= 256 << 20
    assert {path.removeprefix("/work/") for path in spec.files} == set(Trail.from_task(TASK).contents)


@pytest.mark.parametrize(
    "call",
    [
        ToolCall(name="python", arguments={"command": "ls"}),
        ToolCall(name="shell"),
        ToolCall(name="shell", arguments={"command": 3}),
        ToolCall(name="shell", arguments={"command": "  "}),
        ToolCall(name="shell", arguments={"command": "ls\0"}),
    ],
)
async def test_a_malformed_call_is_answered_not_raised(episode, call):
    async with episode(TASK) as walk:
        result = await walk.environment.step(call)
        assert result.errored
        assert "shell" in result.observation


async def test_a_command_that_takes_too_long_is_an_observation(open_sandbox, episode):
    settings = TrailSettings(command_timeout=0.3)
    async with episode(TASK, settings, open_sandbox=open_sandbox) as walk:
        result = await walk.run("echo early; sleep 30; echo late")
        assert result.observation == "early\n(timed out)"
        assert result.errored
        assert (await walk.run("expr 3 + 4")).observation == "7"


async def test_errors_of_the_shell_name_no_line(open_sandbox, episode):
    async with episode(TASK, open_sandbox=open_sandbox) as walk:
        for _ in range(3):
            assert (await walk.run("oak")).observation == "bash: oak: command not found\nexit 127"
        assert (await walk.run("cd oak")).observation == "bash: cd: oak: No such file or directory\nexit 1"


async def test_the_shell_keeps_its_folder_and_variables(open_sandbox, episode):
    async with episode(TASK, open_sandbox=open_sandbox) as walk:
        await walk.run("mkdir den; cd den; a=5")
        assert (await walk.run("pwd; echo $a")).observation == "/work/den\n5"


class Dying:
    """A sandbox whose session dies at the first command."""

    async def session(self):
        return self

    async def run(self, command, **options):
        raise SandboxDied("out of memory")

    async def close(self):
        pass


async def test_the_death_of_the_sandbox_is_raised():
    environment = TrailEnvironment(TrailSettings())
    await environment.reset(TASK, seed=0, sandbox=Dying())
    with pytest.raises(SandboxDied):
        await environment.step(ToolCall(name="shell", arguments={"command": "ls"}))


async def test_use_out_of_order_is_refused_and_closing_twice_is_not():
    environment = TrailEnvironment(TrailSettings())
    with pytest.raises(ContractError, match="before reset"):
        await environment.step(ToolCall(name="shell", arguments={"command": "ls"}))
    with pytest.raises(ContractError, match="create one from sandbox_spec"):
        await environment.reset(TASK, seed=0, sandbox=None)
    await environment.close()
    await environment.close()


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (Output(), "(no output)"),
        (Output(stdout=b"5\n"), "5"),
        (Output(exit_code=1), "exit 1"),
        (Output(stdout=b"a\n", stderr=b"b\n", exit_code=2), "a\nb\nexit 2"),
        (Output(stderr=b"bash: line 12: x: no\n", exit_code=1), "bash: x: no\nexit 1"),
        (Output(stderr=b"/bin/bash: line 3: x: no\n", exit_code=1), "bash: x: no\nexit 1"),
        (Output(stderr=b"environment: line 1: x: no\n", exit_code=1), "bash: x: no\nexit 1"),
        (Output(stderr=b"bash: eval: line 1: bad\n", exit_code=2), "bash: bad\nexit 2"),
        (Output(stdout=b"bash: line 12: kept\n"), "bash: line 12: kept"),
        (Output(stdout=b"\x00\x01ustar\xff!"), "?ustar?!"),
        (Output(stdout=b"amber.txt birch.txt"), "amber.txt birch.txt"),
        (Output(stdout=b"amber.txt birch.txt cedar"), "amber.txt birch.txt\n(cut)"),
        (Output(stdout=b"amber.txt birch.txtx"), "amber.txt\n(cut)"),
        (Output(stdout=b"x" * 30), "x" * 19 + "\n(cut)"),
        (Output(timed_out=True, exit_code=137), "(timed out)"),
        (Output(ended=True), "(the shell has ended)"),
    ],
)
def test_an_output_reads_as(output, text):
    assert render(output, limit=19) == text
