"""Qwen Code, unmodified, does a task in a sandbox without a network, and what it did can be trained on."""

import pytest
from tests.agents.process.playing import WatchedInference, call, in_order, play

from tumbler_agents.process.qwen_code.agent import QwenCodeAgent
from tumbler_agents.process.qwen_code.settings import QwenCodeSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first time it is installed

WIDE = {"context_window": 400_000}
"""Tokens of the test's policy are characters."""


def shell(command):
    return call("run_shell_command", command=command, description="Work on it.", is_background=False)


def agent(**settings):
    return QwenCodeAgent(QwenCodeSettings(**{**WIDE, **settings}))


async def test_it_does_a_task(on):
    script = [*(shell(each) for each in ["ls", *on.solution]), "All done."]
    played = await play(on, agent(), in_order(script))
    assert (played.trajectory.status, played.trajectory.status_reason) == ("completed", "finished")
    assert played.trajectory.success
    assert [segment.cause for segment in played.trajectory.segments] == ["start"]
    assert len(played.trajectory.chunks) == len(script)
    played.check_tokens()


async def test_it_writes_and_edits_files_with_its_own_tools(on):
    script = [
        call("write_file", file_path="/app/note", content="one\ntwo\n"),
        call("edit", file_path="/app/note", old_string="two", new_string="three"),
        shell("cat /app/note"),
        "All done.",
    ]
    played = await play(on, agent(), in_order(script))
    assert "one\nthree" in played.trajectory.chunks[2].observation
    played.check_tokens()


async def test_each_token_is_trained_once_when_it_compacts(on):
    snapshot = "<state_snapshot>Numbers were printed. The task is still to be done.</state_snapshot>"

    def policy(prompt):
        if "<state_snapshot>" in prompt.rpartition("user\n")[2] and "seq 1 3500" in prompt:
            return snapshot
        if "seq 1 3500" not in prompt and snapshot not in prompt:
            return shell("seq 1 3500")
        if "EDITED" in prompt:
            return "All done."
        return shell(f"{' && '.join(on.solution)}; echo EDITED")

    small = {"context_window": 80_000, "compact_at": 0.7, "system_prompt": "You edit files."}
    played = await play(on, agent(**small), policy)
    assert played.trajectory.success and played.trajectory.status_reason == "finished"
    assert any(chunk.text == snapshot for chunk in played.trajectory.chunks)
    assert any(snapshot in prompt for prompt in played.prompts), "it did not go on from its summary"
    assert "rewrite" in {segment.cause for segment in played.trajectory.segments}
    played.check_tokens()


async def test_each_token_is_trained_once_when_sub_agents_ask_at_the_same_time(on):
    def part(name):
        return call("agent", description="Look.", prompt=f"SUBTASK-{name}", subagent_type="general-purpose")

    def is_part(prompt):
        return ("SUBTASK-A" in prompt) != ("SUBTASK-B" in prompt)

    def policy(prompt):
        if is_part(prompt):
            return "It is seen to." if "LOOKED" in prompt else shell("echo LOOKED")
        if "SUBTASK-A" not in prompt:
            return f"{part('A')}\n{part('B')}"
        return "All done." if "EDITED" in prompt else shell(f"{' && '.join(on.solution)}; echo EDITED")

    inference = WatchedInference(policy, together=2, waits=is_part)
    played = await play(on, agent(), inference)
    assert played.trajectory.success and played.trajectory.status_reason == "finished"
    assert sum(is_part(prompt) for prompt in played.prompts) == 4
    assert len(played.trajectory.segments) == 3
    played.check_tokens()


async def test_it_ends_at_the_turn_limit(on):
    played = await play(on, agent(), in_order([shell("true")]), turns=3)
    assert (played.trajectory.status, played.trajectory.status_reason) == ("truncated", "turn_limit")
    assert len(played.trajectory.chunks) == 3


async def test_a_context_too_small_for_its_own_prompt_is_an_overflow(on):
    played = await play(on, agent(context_window=20_000), in_order([shell("true")]))
    assert (played.trajectory.status, played.trajectory.status_reason) == ("truncated", "context_overflow")


async def test_it_asks_the_policy_nothing_but_the_task(on):
    played = await play(on, agent(), in_order(["There is nothing to do."]))
    assert len(played.prompts) == 1
    assert on.task.instruction in played.prompts[0]
