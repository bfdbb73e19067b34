"""mini-SWE-agent, unmodified, does a task in a sandbox without a network, and what it did can be trained on."""

import re

import pytest
from tests.agents.process.playing import call, in_order, play

from tumbler_agents.process.mini_swe_agent.agent import MiniSweAgent
from tumbler_agents.process.mini_swe_agent.settings import MiniSweAgentSettings
from tumbler_agents.process.packages.settings import PackageSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first time it is installed

SUBMIT = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"


def bash(command):
    return f"Let me see.\n{call('bash', command=command)}"


def block(command):
    return f"Let me see.\n```mswea_bash_command\n{command}\n```"


async def test_it_does_a_task_by_tool_calls(on):
    script = ["ls", *on.solution, SUBMIT]
    played = await play(on, MiniSweAgent(MiniSweAgentSettings()), in_order([bash(each) for each in script]))
    assert (played.trajectory.status, played.trajectory.status_reason) == ("completed", "finished")
    assert played.trajectory.success
    assert [segment.cause for segment in played.trajectory.segments] == ["start"]
    assert len(played.trajectory.chunks) == len(script)
    played.check_tokens()


async def test_it_does_a_task_by_commands_in_text(on):
    script = [*on.solution, SUBMIT]
    agent = MiniSweAgent(MiniSweAgentSettings(tool_calls=False))
    played = await play(on, agent, in_order([block(each) for each in script]))
    assert played.trajectory.success and played.trajectory.status_reason == "finished"
    played.check_tokens()


async def test_it_reaches_its_gateway_and_nothing_else_and_its_packages_are_not_the_tasks(on):
    probe = "python3 -c 'import litellm'; cat /proc/net/dev; touch /opt/tumbler-agent/x"
    played = await play(on, MiniSweAgent(MiniSweAgentSettings()), in_order([bash(probe), bash(SUBMIT)]))
    seen = played.trajectory.chunks[0].observation
    assert "No module named" in seen and "Read-only file system" in seen
    assert re.findall(r"(\w+):", seen.partition("face")[2].partition("touch")[0]) == ["lo"]


async def test_it_ends_at_the_turn_limit(on):
    played = await play(on, MiniSweAgent(MiniSweAgentSettings()), in_order([bash("true")]), turns=3)
    assert (played.trajectory.status, played.trajectory.status_reason) == ("truncated", "turn_limit")
    assert len(played.trajectory.chunks) == 3


async def test_it_gives_up_on_replies_without_a_command(on):
    agent = MiniSweAgent(MiniSweAgentSettings(format_errors=2))
    played = await play(on, agent, in_order(["I do not know."]))
    assert played.trajectory.status_reason == "malformed"
    assert len(played.trajectory.chunks) == 2


async def test_its_own_record_is_kept(on):
    agent = MiniSweAgent(MiniSweAgentSettings(log_bytes=500_000))
    played = await play(on, agent, in_order([bash(SUBMIT)]))
    assert '"exit_status": "Submitted"' in played.program["files"]["trajectory.json"]


def test_its_packages_are_pinned_and_others_may_be_added():
    settings = MiniSweAgentSettings(version="2.4.5", packages=PackageSettings(pip=("six==1.17.0",)))
    assert MiniSweAgent(settings).packages.pip == (
        "mini-swe-agent==2.4.5",
        f"litellm=={settings.litellm}",
        "six==1.17.0",
    )
