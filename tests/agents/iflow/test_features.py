"""Todo, plan mode, mentions, reminders, sub-agents' limits: each through a conversation or directly."""

import pytest
from tests.agents.iflow.scripted import ScriptedChat, call, calls, events_of, host_of

from tumbler.contracts.conversation import ApprovalNeeded
from tumbler_agents.iflow.allowance import Allowance
from tumbler_agents.iflow.conversation import opened
from tumbler_agents.iflow.definitions import SubAgentSettings
from tumbler_agents.iflow.loops import LoopGuard
from tumbler_agents.iflow.mentions import mentioned
from tumbler_agents.iflow.planning import PLAN_TOOL
from tumbler_agents.iflow.reminders import ReminderSettings
from tumbler_agents.iflow.settings import IflowSettings
from tumbler_agents.iflow.todo import TodoItem, TodoList, todo_tool
from tumbler_agents.iflow.toolbox import chosen

SETTINGS = IflowSettings()


async def test_the_todo_list_is_replaced_as_a_whole():
    todo = TodoList([TodoItem(content="old")])
    items = [{"content": "a", "status": "completed"}, {"content": "b", "status": "in_progress"}, {"content": "c"}]
    answer = await todo_tool(todo).call({"todos": items})
    assert answer.text == "Todo list:\n[x] a\n[~] b\n[ ] c"
    assert (todo.open, len(todo.items)) == (2, 3)


@pytest.mark.parametrize(
    ("todos", "said"),
    [
        ([{"content": "a", "status": "in_progress"}, {"content": "b", "status": "in_progress"}], "keep one: a, b"),
        ([{"content": "a", "status": "started"}], "todos.0.status"),
        ([{"content": ""}], "todos.0.content"),
        ("a", "todos"),
    ],
)
async def test_a_todo_list_that_makes_no_sense_is_answered_and_changes_nothing(todos, said):
    todo = TodoList([TodoItem(content="old")])
    answer = await todo_tool(todo).call({"todos": todos})
    assert answer.errored and said in answer.text
    assert todo.shown() == "[ ] old"


async def test_in_plan_mode_nothing_is_changed_until_the_person_approves_the_plan(box):
    chat = ScriptedChat(
        calls(("list", {}), ("write", {"path": "a", "content": "b"}), ("todo_write", {"todos": []})),
        call(PLAN_TOOL, plan="Write a."),
        call("write", path="a", content="b"),
        "done",
    )
    async with opened(IflowSettings(plan=True), host_of(chat, sandbox=box)) as conversation:
        asked = []
        async for event in conversation.send("Write a."):
            if isinstance(event, ApprovalNeeded):
                with pytest.raises(FileNotFoundError):
                    await box.read("a")
                asked.append(event.arguments)
                conversation.decide(event.id, allowed=True)
    answers = [message.content for message in chat.asked[1] if message.role == "tool"]
    assert "not available while planning" in answers[1]
    assert not answers[0].startswith("error") and not answers[2].startswith("error")
    assert asked == [{"plan": "Write a."}]
    assert await box.read("a") == b"b"


async def test_a_plan_that_is_turned_down_leaves_plan_mode_on(box):
    chat = ScriptedChat(call(PLAN_TOOL, plan="Write a."), call("write", path="a", content="b"), "done")
    async with opened(IflowSettings(plan=True), host_of(chat, sandbox=box)) as conversation:
        async for event in conversation.send("Write a."):
            if isinstance(event, ApprovalNeeded):
                conversation.decide(event.id, allowed=False, reason="write b")
    assert "not approved: write b" in chat.asked[1][-1].content
    assert "not available while planning" in chat.asked[2][-1].content


async def test_sub_agents_do_not_get_around_plan_mode(box):
    chat = ScriptedChat(call("task", prompt="Write."), call("write", path="a", content="b"), "tried", "done")
    async with opened(IflowSettings(plan=True), host_of(chat, sandbox=box)) as conversation:
        await events_of(conversation, "Go.")
    assert "not available while planning" in chat.asked[2][-1].content


async def test_a_hook_may_turn_a_plan_down_where_no_person_is():
    async def no(told):
        return {"decision": "block", "reason": "too short"} if told["tool"] == PLAN_TOOL else None

    class Nobody:
        async def approve(self, agent_id, name, arguments):
            raise AssertionError("asked although a hook has blocked the call")

    chat = ScriptedChat(call(PLAN_TOOL, plan="x"), "done")
    host = host_of(chat, hooks=[("before_tool", no)], approver=Nobody())
    async with opened(IflowSettings(plan=True), host) as conversation:
        await events_of(conversation, "Go.")
    assert "error: too short" in chat.asked[1][-1].content


async def test_files_that_a_message_mentions_are_attached_and_count_as_read(box):
    await box.write("src/a.py", b"print(1)\n")
    chat = ScriptedChat(call("edit", path="src/a.py", old="1", new="2"), "done")
    async with opened(SETTINGS, host_of(chat, sandbox=box)) as conversation:
        await events_of(conversation, "Mend @src/a.py, not @none.py nor me@a.py.")
    said = chat.asked[0][-1].content
    assert '<file path="src/a.py">\nprint(1)\n</file>' in said and said.count("<file ") == 1
    assert await box.read("src/a.py") == b"print(2)\n"


async def test_a_long_attachment_is_cut_and_does_not_count_as_read(box):
    await box.write("long", b"line\n" * 2000)
    chat = ScriptedChat(call("write", path="long", content=""), "done")
    async with opened(IflowSettings(attached_characters=1000), host_of(chat, sandbox=box)) as conversation:
        await events_of(conversation, "See @long")
    assert len(chat.asked[0][-1].content) < 1100 and "left out" in chat.asked[0][-1].content
    assert "has not been read" in chat.asked[1][-1].content


def test_mentions_are_names_behind_a_sign():
    assert mentioned("@a.py, @b/c.txt: `@code` x@y @@z @a.py") == ["a.py", "b/c.txt"]


async def test_the_agent_is_reminded_of_its_todo_list(box):
    settings = IflowSettings(reminders=ReminderSettings(todo_after=2))
    chat = ScriptedChat(
        call("shell", command="echo 1"),
        call("shell", command="echo 2"),
        call("todo_write", todos=[{"content": "sweep"}]),
        call("shell", command="echo 3"),
        call("shell", command="echo 4"),
        "done",
    )
    async with opened(settings, host_of(chat, sandbox=box)) as conversation:
        await events_of(conversation, "Go.")
    told = [messages[-1].content for messages in chat.asked[1:]]
    assert [("empty" in each, "[ ] sweep" in each and "for a while" in each) for each in told] == [
        (False, False),
        (True, False),
        (False, False),
        (False, False),
        (False, True),
    ]


async def test_the_agent_is_told_once_of_a_file_that_the_shell_changed(box):
    await box.write("a", b"one\n")
    chat = ScriptedChat(
        call("read", path="a"), call("shell", command="echo two > a"), call("shell", command="true"), "done"
    )
    async with opened(SETTINGS, host_of(chat, sandbox=box)) as conversation:
        await events_of(conversation, "Go.")
    told = ["have changed since: a." in messages[-1].content for messages in chat.asked]
    assert told == [False, False, True, False]


async def test_reminders_go_along_with_the_last_answer_and_are_no_message_of_their_own(box):
    await box.write("a", b"one\n")
    chat = ScriptedChat(calls(("read", {"path": "a"}), ("shell", {"command": "echo two > a"})), "done")
    async with opened(SETTINGS, host_of(chat, sandbox=box)) as conversation:
        await events_of(conversation, "Go.")
    assert [message.role for message in chat.asked[1]] == ["system", "user", "assistant", "tool", "tool"]
    assert "<system-reminder>" in chat.asked[1][-1].content


async def test_without_depth_there_are_no_sub_agents():
    chat = ScriptedChat("done")
    async with opened(IflowSettings(sub_agents=SubAgentSettings(depth=0)), host_of(chat)) as conversation:
        await events_of(conversation, "Go.")
    assert "task" not in chat.tools


async def test_with_depth_two_sub_agents_have_sub_agents_and_those_have_none(box):
    chat = ScriptedChat(
        call("task", prompt="one"), call("task", prompt="two"), call("task", prompt="three"), "deep", "middle", "top"
    )
    async with opened(IflowSettings(sub_agents=SubAgentSettings(depth=2)), host_of(chat, sandbox=box)) as conversation:
        events = await events_of(conversation, "Go.")
    assert events[-1].text == "top"
    assert "there is no tool 'task'" in chat.asked[3][-1].content


async def test_an_unknown_sub_agent_is_answered_with_those_there_are():
    chat = ScriptedChat(call("task", prompt="one", agent="genral"), "done")
    async with opened(SETTINGS, host_of(chat)) as conversation:
        await events_of(conversation, "Go.")
    assert "Did you mean 'general'?" in chat.asked[1][-1].content


def test_an_allowance_counts_for_the_whole_too():
    time = [0.0]
    whole = Allowance(5, 10, clock=lambda: time[0])
    share = whole.share(2)
    share.take()
    assert (share.turns_left, whole.turns_left) == (1, 4)
    share.take()
    assert share.strike() == "turn_limit" and whole.strike() is None
    time[0] = 10.0
    assert whole.strike() == "time_limit" and whole.share(3).strike() == "time_limit"


def _turns(guard, names):
    told = []
    for name in names:
        guard.note(call(name).calls, [f"result of {name}"])
        told.append((guard.reminds, guard.stops))
    return told


def test_a_circle_of_two_turns_is_noticed_once():
    told = _turns(LoopGuard(3, 4), "abababab")
    assert [index for index, each in enumerate(told) if each[0]] == [5]
    assert [index for index, each in enumerate(told) if each[1]] == [7]


def test_the_same_call_with_another_result_is_no_circle():
    guard = LoopGuard(2, 3)
    for index in range(9):
        guard.note(call("poll").calls, [str(index)])
        assert not guard.reminds and not guard.stops


def test_what_the_person_says_breaks_a_circle():
    guard = LoopGuard(2, 3)
    _turns(guard, "aa")
    guard.forget()
    assert _turns(guard, "aa") == [(False, False), (True, False)]


def test_zero_never_stops():
    assert not any(stops for _, stops in _turns(LoopGuard(0, 0), "a" * 30))


def test_patterns_choose_tools():
    assert chosen("read_many", ("read*",), ())
    assert not chosen("read_many", ("*",), ("*_many",))
