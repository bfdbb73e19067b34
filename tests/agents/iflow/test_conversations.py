"""Conversations with a person, through the loop that episodes use: events, approval, interruption, resumption."""

import asyncio

import pytest
from tests.agents.iflow.scripted import ScriptedChat, call, calls, events_of, host_of, require_legal

from tumbler.contracts.agent import Limits
from tumbler.contracts.conversation import (
    ApprovalNeeded,
    CallEnded,
    CallStarted,
    Done,
    Notice,
    Said,
    TextPiece,
    TokensUsed,
)
from tumbler.contracts.values import ToolCall
from tumbler.errors import RegistryError
from tumbler.testing.fakes import TwoStepEnvironment, TwoStepSettings
from tumbler_agents.iflow.approval import ApprovalRule, ApprovalSettings
from tumbler_agents.iflow.checkpoints import load
from tumbler_agents.iflow.conversation import opened
from tumbler_agents.iflow.recording import CallRecord
from tumbler_agents.iflow.settings import IflowSettings
from tumbler_agents.iflow.thread import INTERRUPTED

SETTINGS = IflowSettings()
ASKING = IflowSettings(approval=ApprovalSettings(otherwise="ask"))


async def test_a_message_brings_events_up_to_the_end(box):
    chat = ScriptedChat(call("shell", command="echo hello"), "It says hello.")
    async with opened(SETTINGS, host_of(chat, sandbox=box)) as conversation:
        events = await events_of(conversation, "Say hello.")
    kinds = [type(event) for event in events]
    assert kinds == [TokensUsed, CallStarted, CallEnded, TextPiece, TokensUsed, Said, Done]
    assert events[2].text == "hello" and not events[2].errored
    assert events[-1] == Done(reason="finished", text="It says hello.")


async def test_the_agent_remembers_what_was_said_before():
    chat = ScriptedChat("one", "two")
    async with opened(SETTINGS, host_of(chat)) as conversation:
        await events_of(conversation, "first")
        await events_of(conversation, "second")
    assert [message.content for message in chat.asked[1][1:]] == ["first", "one", "second"]


async def test_a_server_that_numbers_calls_anew_in_each_reply_is_understood(box):
    chat = ScriptedChat(call("shell", command="echo a"), call("shell", command="echo b"), "done")
    async with opened(SETTINGS, host_of(chat, sandbox=box)) as conversation:
        await events_of(conversation, "Go.")
    require_legal(chat.asked[-1])
    identities = [each.id for message in chat.asked[-1] for each in message.calls]
    assert len(set(identities)) == 2


async def test_every_message_has_the_limits_to_itself(box):
    chat = ScriptedChat(*[call("shell", command=f"echo {index}") for index in range(9)])
    limits = Limits(turns=3, seconds=60)
    async with opened(SETTINGS, host_of(chat, sandbox=box, limits=limits)) as conversation:
        for _ in range(2):
            assert (await events_of(conversation, "Go."))[-1].reason == "turn_limit"
    assert len(chat.asked) == 6


async def _decided(conversation, text, *, allowed, reason=""):
    events = []
    async for event in conversation.send(text):
        events.append(event)
        if isinstance(event, ApprovalNeeded):
            assert conversation.decide(event.id, allowed=allowed, reason=reason)
            assert not conversation.decide(event.id, allowed=True), "decided twice"
    return events


async def test_a_call_that_is_approved_is_made(box):
    chat = ScriptedChat(call("write", path="a", content="b"), "done")
    async with opened(ASKING, host_of(chat, sandbox=box)) as conversation:
        events = await _decided(conversation, "Write.", allowed=True)
    assert any(isinstance(event, ApprovalNeeded) and event.name == "write" for event in events)
    assert await box.read("a") == b"b"


async def test_a_call_that_is_not_approved_is_not_made_and_the_reason_is_told(box):
    chat = ScriptedChat(call("write", path="a", content="b"), "done")
    async with opened(ASKING, host_of(chat, sandbox=box)) as conversation:
        await _decided(conversation, "Write.", allowed=False, reason="not that file")
    with pytest.raises(FileNotFoundError):
        await box.read("a")
    assert "was not approved: not that file" in chat.asked[1][-1].content


async def test_reading_needs_no_approval(box):
    chat = ScriptedChat(call("list"), "done")
    async with opened(ASKING, host_of(chat, sandbox=box)) as conversation:
        assert not any(isinstance(event, ApprovalNeeded) for event in await events_of(conversation, "Look."))


async def test_a_denied_pattern_is_not_even_asked_for(box):
    rule = ApprovalRule(tool="shell", matches=r"\brm\b", decision="deny")
    settings = IflowSettings(approval=ApprovalSettings(rules=(rule,), otherwise="ask"))
    chat = ScriptedChat(call("shell", command="rm -r ."), "done")
    async with opened(settings, host_of(chat, sandbox=box)) as conversation:
        events = await events_of(conversation, "Clean up.")
    assert not any(isinstance(event, ApprovalNeeded) for event in events)
    assert "not allowed" in chat.asked[1][-1].content


async def test_where_nobody_answers_the_call_is_not_made(box):
    settings = IflowSettings(approval=ApprovalSettings(otherwise="ask", seconds=0.05))
    chat = ScriptedChat(call("shell", command="true"), "done")
    async with opened(settings, host_of(chat, sandbox=box)) as conversation:
        await events_of(conversation, "Go.")
    assert "nobody answered" in chat.asked[1][-1].content


async def test_interrupted_calls_are_answered_so_that_the_log_stays_legal(box):
    chat = ScriptedChat(
        calls(("read", {"path": "none"}), ("shell", {"command": "sleep 60"}), ("write", {"path": "a", "content": "b"})),
        "I stopped.",
    )
    async with opened(SETTINGS, host_of(chat, sandbox=box)) as conversation:
        events = []
        async for event in conversation.send("Work."):
            events.append(event)
            if isinstance(event, CallStarted) and event.name == "shell":
                await conversation.interrupt()
        assert events[-1] == Done(reason="interrupted")
        await events_of(conversation, "What happened?")
    require_legal(chat.asked[1])
    answers = [message.content for message in chat.asked[1] if message.role == "tool"]
    assert "no file" in answers[0], "the answer that there was is lost"
    assert answers[1].startswith("interrupted") and answers[2].startswith("interrupted")
    with pytest.raises(FileNotFoundError):
        await box.read("a")


async def test_a_person_who_stops_listening_interrupts(box):
    chat = ScriptedChat(call("shell", command="sleep 60"), "done")
    async with opened(SETTINGS, host_of(chat, sandbox=box)) as conversation:
        stream = conversation.send("Work.")
        await anext(stream)
        await stream.aclose()
        assert (await events_of(conversation, "And?"))[-1].reason == "finished"
    require_legal(chat.asked[1])


async def test_an_interruption_ends_a_model_call_and_sub_agents(box):
    waiting = asyncio.Event()

    class Slow(ScriptedChat):
        async def chat(self, messages, tools=(), **settings):
            if "for another agent" in messages[0].content:
                waiting.set()
                await asyncio.Event().wait()
            return await super().chat(messages, tools, **settings)

    chat = Slow(call("task", prompt="Look."), "stopped")
    async with opened(SETTINGS, host_of(chat, sandbox=box)) as conversation:
        listening = asyncio.create_task(events_of(conversation, "Work."))
        await waiting.wait()
        await conversation.interrupt()
        assert (await listening)[-1].reason == "interrupted"
        await events_of(conversation, "And?")
    require_legal(chat.asked[-1])


async def test_a_second_message_waits_for_the_first(box):
    chat = ScriptedChat(call("shell", command="sleep 60"), "done")
    async with opened(SETTINGS, host_of(chat, sandbox=box)) as conversation:
        stream = conversation.send("Work.")
        await anext(stream)
        with pytest.raises(RuntimeError, match="at work"):
            await anext(conversation.send("More."))
        await stream.aclose()


async def test_a_model_that_fails_ends_the_message_and_not_the_conversation():
    def fail(_messages):
        raise ConnectionError("no route")

    chat = ScriptedChat(fail, "Here again.")
    async with opened(SETTINGS, host_of(chat)) as conversation:
        assert (await events_of(conversation, "Hello."))[-1] == Done(reason="failed", text="ConnectionError: no route")
        assert (await events_of(conversation, "Hello?"))[-1].text == "Here again."


async def test_a_saved_conversation_goes_on_where_it_was(box, tmp_path):
    chat = ScriptedChat(
        calls(("todo_write", {"todos": [{"content": "write it"}]}), ("write", {"path": "a", "content": "b"})), "so far"
    )
    async with opened(SETTINGS, host_of(chat, sandbox=box)) as conversation:
        await events_of(conversation, "Begin.")
        await conversation.save(tmp_path / "saved.json")
    again = ScriptedChat(call("edit", path="a", old="b", new="c"), "done")
    saved = load(tmp_path / "saved.json")
    async with opened(SETTINGS, host_of(again, sandbox=box), saved) as conversation:
        notices = await events_of(conversation, "/todo")
        await events_of(conversation, "Go on.")
    assert notices[0] == Notice(text="[ ] write it")
    assert [message.content for message in again.asked[0][:2]] == [message.content for message in chat.asked[0]]
    require_legal(again.asked[1])
    assert await box.read("a") == b"c", "the file that was written before was not known any more"
    identities = [each.id for message in again.asked[1] for each in message.calls]
    assert len(set(identities)) == 3


async def test_what_was_saved_in_the_middle_of_a_turn_is_legal_when_taken_up(box, tmp_path):
    chat = ScriptedChat(call("shell", command="sleep 60"), "done")
    async with opened(SETTINGS, host_of(chat, sandbox=box)) as conversation:
        stream = conversation.send("Work.")
        await anext(stream)
        await conversation.save(tmp_path / "saved.json")
        await stream.aclose()
    again = ScriptedChat("done")
    async with opened(SETTINGS, host_of(again, sandbox=box), load(tmp_path / "saved.json")) as conversation:
        await events_of(conversation, "Go on.")
        unanswered = [entry for entry in conversation.agent.thread.context.entries if entry.answers is not None]
    require_legal(again.asked[0])
    assert [INTERRUPTED in entry.message.content for entry in unanswered] == [True]


async def test_the_sandboxs_files_are_saved_where_it_can_copy_them(box, backend, tmp_path):
    chat = ScriptedChat(call("write", path="a", content="b"), "done")
    async with opened(SETTINGS, host_of(chat, sandbox=box)) as conversation:
        await events_of(conversation, "Write.")
        saved = await conversation.save(tmp_path / "saved.json", files=True)
    if backend.capabilities.snapshots:
        assert saved.template is not None
        await backend.delete_template(saved.template)
    else:
        assert saved.template is None


def test_a_file_that_holds_no_conversation_is_refused(tmp_path):
    (tmp_path / "broken.json").write_text('{"format": 2}')
    for name in ("broken.json", "missing.json"):
        with pytest.raises(RegistryError, match=name):
            load(tmp_path / name)


async def test_the_scaffolds_commands_ask_no_model():
    chat = ScriptedChat("never")
    async with opened(SETTINGS, host_of(chat)) as conversation:
        for command in ("/help", "/todo", "/memory", "/compact"):
            events = await events_of(conversation, command)
            assert isinstance(events[0], Notice) and events[-1] == Done(reason="finished")
    assert chat.asked == []


async def test_a_path_that_begins_with_a_slash_is_no_command():
    chat = ScriptedChat("seen")
    async with opened(SETTINGS, host_of(chat)) as conversation:
        await events_of(conversation, "/etc/passwd is what?")
    assert chat.asked[0][-1].content == "/etc/passwd is what?"


async def test_calls_that_only_read_run_side_by_side_and_others_in_order(box):
    await box.write("a", b"1\n")
    running, most, order = set(), [], []
    meeting = asyncio.Barrier(2)

    async def before(told):
        running.add(told["arguments"].get("path", told["tool"]))
        if told["tool"] == "read":
            await meeting.wait()
        most.append((told["tool"], len(running)))

    async def after(told):
        running.discard(told["arguments"].get("path", told["tool"]))
        order.append(told["tool"])

    chat = ScriptedChat(
        calls(
            ("read", {"path": "a"}),
            ("read", {"path": "./a"}),
            ("write", {"path": "b", "content": "1"}),
            ("shell", {"command": "cat b"}),
        ),
        "done",
    )
    hooks = [("before_tool", before), ("after_tool", after)]
    async with opened(SETTINGS, host_of(chat, sandbox=box, hooks=hooks)) as conversation:
        await events_of(conversation, "Go.")
    assert order == ["read", "read", "write", "shell"]
    assert ("write", 1) in most and ("shell", 1) in most
    assert [each.content.strip() for each in chat.asked[1][3:]][2:] == ["Created b (1 bytes).", "1"]


async def test_a_sandbox_that_dies_ends_the_message_and_leaves_a_legal_log(box):
    chat = ScriptedChat(calls(("shell", {"command": "true"}), ("list", {})), "It is gone.")
    async with opened(SETTINGS, host_of(chat, sandbox=box)) as conversation:
        await box.delete()
        assert (await events_of(conversation, "Go."))[-1].reason == "failed"
        await events_of(conversation, "What now?")
    require_legal(chat.asked[1])


async def test_a_person_may_ask_for_the_same_thing_again_and_again(box):
    chat = ScriptedChat(*[call("shell", command="echo same"), "done"] * 4)
    settings = IflowSettings(stop_after_repeats=2)
    async with opened(settings, host_of(chat, sandbox=box)) as conversation:
        for _ in range(4):
            assert (await events_of(conversation, "Again."))[-1].reason == "finished"


async def test_after_its_end_the_environment_is_not_stepped_any_more():
    environment = TwoStepEnvironment(TwoStepSettings())
    stepped = []

    class Tools:
        specs = environment.tools()

        async def call(self, made, *, chunk):
            stepped.append(made.name)
            return await environment.step(made)

        def reject(self, *, chunk, reason):
            raise AssertionError(reason)

    record = CallRecord(Tools())
    ended = await record.step(ToolCall(name="say"), chunk=0)
    late = await record.step(ToolCall(name="look"), chunk=0)
    assert ended.ends and late.errored and record.ended == "terminated"
    assert stepped == ["say"]
