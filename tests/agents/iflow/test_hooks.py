"""Hooks block, change and fail; none of them breaks the agent."""

import asyncio
import os
import signal

import pytest
from pydantic import ValidationError
from tests.agents.iflow.scripted import Scripted, ScriptedChat, call, calls, episode, events_of, host_of

from tumbler_agents.iflow.conversation import opened
from tumbler_agents.iflow.hooks import Hooks, HookSettings
from tumbler_agents.iflow.settings import IflowSettings

SETTINGS = IflowSettings()


def outcomes(hooks):
    return [(record.event, record.outcome) for record in hooks]


async def test_a_command_in_the_sandbox_is_told_the_call_and_blocks_with_exit_code_2(backend):
    command = 'grep -q forbidden && { echo "not this one" >&2; exit 2; } || exit 0'
    hook = HookSettings(event="before_tool", command=command, matcher="shell")
    policy = Scripted(call("shell", command="echo forbidden"), call("shell", command="echo fine"), "done")
    trajectory = await episode(IflowSettings(hooks=(hook,)), policy, backend)
    assert "error: not this one" in policy.prompts[1]
    assert trajectory.chunks[0].errored and not trajectory.chunks[1].errored
    assert "fine" in trajectory.chunks[1].observation


async def test_a_command_changes_the_arguments_of_a_call(box):
    hook = HookSettings(event="before_tool", command="""echo '{"arguments": {"command": "echo changed"}}'""")
    chat = ScriptedChat(call("shell", command="echo asked"), "done")
    async with opened(IflowSettings(hooks=(hook,)), host_of(chat, sandbox=box)) as conversation:
        await events_of(conversation, "Go.")
    assert chat.asked[1][-1].content == "changed"


@pytest.mark.parametrize(
    ("command", "outcome"),
    [
        ("exit 1", "failed"),
        ("echo no json", "failed"),
        ("echo '[1]'", "failed"),
        ("""echo '{"arguments": 3}'""", "failed"),
        ("sleep 60", "timed_out"),
        ("no-such-program-anywhere", "failed"),
        ("true", "passed"),
        ("""echo '{"context": "by the way"}'""", "changed"),
        ("echo no >&2; exit 2", "blocked"),
    ],
)
@pytest.mark.parametrize("where", ["sandbox", "host"])
async def test_each_run_is_recorded_whatever_comes_of_it(box, command, outcome, where):
    hooks = Hooks([HookSettings(event="before_tool", command=command, where=where, seconds=0.5)], sandbox=box)
    verdict = await hooks.run("before_tool", {"tool": "x", "arguments": {}}, name="x")
    assert outcomes(hooks.records) == [("before_tool", outcome)]
    assert (verdict.blocked is not None) == (outcome == "blocked")
    assert verdict.context == (["by the way"] if outcome == "changed" else [])


async def test_a_command_on_the_host_that_hangs_leaves_nothing_behind(tmp_path):
    mark = tmp_path / "pid"
    command = f"sleep 300 & echo $! > {mark}; wait"
    hooks = Hooks([HookSettings(event="stop", command=command, where="host", seconds=0.5)])
    await hooks.run("stop")
    pid = int(mark.read_text())
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        await asyncio.sleep(0.05)
    state = (await asyncio.to_thread(open, f"/proc/{pid}/stat")).read().split()[2]
    assert state == "Z", "the hook's child still runs"


async def test_a_command_for_a_sandbox_that_is_not_there_fails_and_says_what_to_set():
    hooks = Hooks([HookSettings(event="stop", command="true")])
    await hooks.run("stop")
    assert 'where = "host"' in hooks.records[0].detail


async def test_functions_of_the_host_program_are_hooks_and_may_raise():
    async def broken(told):
        raise KeyError("oops")

    async def nonsense(told):
        return 7

    chat = ScriptedChat("done")
    hooks = [("before_model", broken), ("stop", nonsense)]
    async with opened(SETTINGS, host_of(chat, hooks=hooks)) as conversation:
        events = await events_of(conversation, "Go.")
        assert events[-1].reason == "finished"
        assert outcomes(conversation.hook_records) == [("before_model", "failed"), ("stop", "failed")]


async def test_all_events_of_a_conversation_come_in_order(box):
    seen = []
    names = ("session_start", "session_end", "before_model", "after_model", "before_tool", "after_tool", "stop")
    names += ("subagent_start", "subagent_stop")

    async def note(told):
        seen.append((told["event"], told["agent"]))

    chat = ScriptedChat(call("task", prompt="Look."), call("list"), "found", "done")
    async with opened(SETTINGS, host_of(chat, sandbox=box, hooks=[(name, note) for name in names])) as conversation:
        await events_of(conversation, "Go.")
    main, sub = "main", "main/general-1"
    assert seen == [
        ("session_start", main),
        ("before_model", main),
        ("after_model", main),
        ("before_tool", main),
        ("subagent_start", sub),
        ("before_model", sub),
        ("after_model", sub),
        ("before_tool", sub),
        ("after_tool", sub),
        ("before_model", sub),
        ("after_model", sub),
        ("subagent_stop", sub),
        ("after_tool", main),
        ("before_model", main),
        ("after_model", main),
        ("stop", main),
        ("session_end", main),
    ]


async def test_a_stop_hook_sends_the_agent_back_to_work():
    answers = [{"decision": "block", "reason": "the tests have not run"}, None]

    async def stop(told):
        return answers.pop(0)

    chat = ScriptedChat("done", "done, and tested")
    async with opened(SETTINGS, host_of(chat, hooks=[("stop", stop)])) as conversation:
        events = await events_of(conversation, "Go.")
    assert events[-1].text == "done, and tested"
    assert chat.asked[1][-1].content == "the tests have not run"


async def test_a_hook_before_the_model_may_stop_the_agent_and_speak_to_it():
    answers = [{"context": "it is raining"}, {"decision": "block", "reason": "enough"}]

    async def before(told):
        return answers.pop(0)

    chat = ScriptedChat(call("nothing"), "never")
    async with opened(SETTINGS, host_of(chat, hooks=[("before_model", before)])) as conversation:
        events = await events_of(conversation, "Go.")
    assert "it is raining" in chat.asked[0][-1].content
    assert (events[-1].reason, events[-1].text, len(chat.asked)) == ("blocked", "enough", 1)


async def test_hooks_change_what_a_sub_agent_is_asked_and_what_it_answers():
    async def start(told):
        return {"prompt": told["prompt"] + " Quickly."}

    async def stop(told):
        return {"text": told["text"].upper()}

    chat = ScriptedChat(call("task", prompt="Look."), "found", "done")
    hooks = [("subagent_start", start), ("subagent_stop", stop)]
    async with opened(SETTINGS, host_of(chat, hooks=hooks)) as conversation:
        await events_of(conversation, "Go.")
    assert chat.asked[1][-1].content == "Look. Quickly."
    assert "FOUND" in chat.asked[2][-1].content


async def test_a_reply_that_a_hook_blocks_is_not_carried_out(box):
    answers = [{"decision": "block", "reason": "too bold"}, None]

    async def after(told):
        return answers.pop(0)

    chat = ScriptedChat(call("write", path="a", content="b"), "done")
    async with opened(SETTINGS, host_of(chat, sandbox=box, hooks=[("after_model", after)])) as conversation:
        await events_of(conversation, "Go.")
    assert "error: too bold" in chat.asked[1][-1].content
    with pytest.raises(FileNotFoundError):
        await box.read("a")


@pytest.mark.parametrize("says", ["yes", "yes >&2"])
async def test_a_command_on_the_host_that_talks_without_end_is_ended_in_its_time(says):
    hooks = Hooks([HookSettings(event="stop", command=says, where="host", seconds=0.3)])
    async with asyncio.timeout(20):
        await hooks.run("stop")
    assert hooks.records[0].outcome == "timed_out"


async def test_a_command_on_the_host_blocks_also_where_it_leaves_something_running():
    hooks = Hooks([HookSettings(event="stop", command="sleep 300 & echo no >&2; exit 2", where="host", seconds=20)])
    assert (await hooks.run("stop")).blocked == "no"


async def test_a_command_on_the_host_is_not_waited_for_by_way_of_what_has_left_its_group(tmp_path):
    command = f"setsid sh -c 'echo $$ > {tmp_path / 'stray'}; exec sleep 300' & sleep 300"
    hooks = Hooks([HookSettings(event="stop", command=command, where="host", seconds=1)])
    try:
        async with asyncio.timeout(30):
            await hooks.run("stop")
    finally:
        os.kill(int((tmp_path / "stray").read_text()), signal.SIGKILL)
    assert hooks.records[0].outcome == "timed_out"


@pytest.mark.parametrize(
    ("answer", "told"),
    [({"decision": "deny"}, "'deny' is none"), ({"contxt": "hello"}, "Did you mean 'context'")],
)
async def test_an_answer_that_means_nothing_is_told_and_changes_nothing(answer, told):
    async def odd(_told):
        return answer

    hooks = Hooks(functions=[("stop", odd)])
    verdict = await hooks.run("stop")
    assert (verdict.blocked, verdict.context) == (None, [])
    assert hooks.records[0].outcome == "failed" and told in hooks.records[0].detail


def test_a_matcher_where_nothing_has_a_name_is_refused():
    with pytest.raises(ValidationError, match="leave the matcher out"):
        HookSettings(event="before_model", command="true", matcher="shell")


async def test_what_hooks_say_of_calls_side_by_side_comes_in_the_calls_order(box):
    async def slow_for_the_first(told):
        await asyncio.sleep(0.3 if told["arguments"]["path"] == "a" else 0)
        return {"context": f"of {told['arguments']['path']}"}

    chat = ScriptedChat(calls(("list", {"path": "a"}), ("list", {"path": "b"})), "done")
    host = host_of(chat, sandbox=box, hooks=[("before_tool", slow_for_the_first)])
    async with opened(IflowSettings(), host) as conversation:
        await events_of(conversation, "look")
    said = chat.asked[-1][-1].content
    assert 0 < said.index("of a") < said.index("of b")
