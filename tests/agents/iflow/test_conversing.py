"""Conversations through the contract of the core: who approves, what a person may do in between, what is kept."""

import pytest
from tests.agents.iflow.scripted import ScriptedChat, call, episode, events_of, pipeline, require_legal, text_of
from tests.agents.iflow.test_compaction import SumUp

from tumbler.contracts.agent import Limits, Reply
from tumbler.contracts.chat import ChatReply, Usage
from tumbler.contracts.conversation import (
    ApprovalNeeded,
    CallEnded,
    CallStarted,
    Compacted,
    Conversation,
    ConversationHost,
    ConversingAgent,
    Notice,
    Spoken,
    TokensUsed,
)
from tumbler.errors import InferenceError, RegistryError
from tumbler_agents.iflow.agent import IflowAgent
from tumbler_agents.iflow.settings import IflowSettings
from tumbler_agents.iflow.transcript import Transcript


def host(model, **given) -> ConversationHost:
    fields = {"model": model, "context": Transcript(), "limits": Limits(turns=20, seconds=60)}
    return ConversationHost(**{**fields, **given})


def agent(**settings) -> IflowAgent:
    return IflowAgent(IflowSettings(**settings))


def results(events):
    return [event.text for event in events if isinstance(event, CallEnded)]


async def test_it_keeps_the_contracts():
    assert isinstance(agent(), ConversingAgent)
    async with agent().converse(host(ScriptedChat("hi"))) as conversation:
        assert isinstance(conversation, Conversation)
        assert (await events_of(conversation, "Hello."))[-1].text == "hi"


async def test_with_a_person_what_changes_something_is_asked_about_also_where_training_allows_it(box):
    chat = ScriptedChat(call("write", path="a", content="b"), "done")
    async with agent().converse(host(chat, sandbox=box)) as conversation:
        kinds = []
        async for event in conversation.send("Go."):
            kinds.append(type(event))
            if isinstance(event, ApprovalNeeded):
                conversation.decide(event.id, allowed=True)
    assert ApprovalNeeded in kinds
    assert await box.read("a") == b"b"


async def test_yes_is_said_to_all_but_what_is_denied(box):
    approval = {"rules": [{"tool": "shell", "decision": "deny"}], "otherwise": "ask"}
    chat = ScriptedChat(call("write", path="a", content="b"), call("shell", command="true"), "done")
    async with agent(approval=approval).converse(host(chat, sandbox=box, asking="yes")) as conversation:
        events = await events_of(conversation, "Go.")
    assert "Created a" in results(events)[0] and "not allowed" in results(events)[1]


async def test_where_nobody_can_be_asked_the_model_is_told_so(box):
    chat = ScriptedChat(call("write", path="a", content="b"), call("list"), "done")
    async with agent().converse(host(chat, sandbox=box, asking="nobody")) as conversation:
        events = await events_of(conversation, "Go.")
    assert "there is nobody to ask" in results(events)[0] and "error" not in results(events)[1]


async def test_a_plan_that_nobody_can_approve_is_to_be_the_answer():
    chat = ScriptedChat(call("submit_plan", plan="1. look"), "The plan: look.")
    async with agent().converse(host(chat, asking="nobody", planning=True)) as conversation:
        events = await events_of(conversation, "Go.")
    assert "give the plan as your answer" in results(events)[0]
    assert events[-1].text == "The plan: look."


async def test_plan_mode_may_begin_and_end_in_the_middle(box):
    chat = ScriptedChat(
        "hello", call("write", path="a", content="b"), "planned", call("write", path="a", content="b"), "ok"
    )
    async with agent().converse(host(chat, sandbox=box, asking="yes")) as conversation:
        await events_of(conversation, "Hi.")
        assert "submit_plan" not in chat.tools
        (begun, _) = await events_of(conversation, "/plan")
        refused = await events_of(conversation, "Write.")
        assert "submit_plan" in chat.tools
        (over, _) = await events_of(conversation, "/plan")
        allowed = await events_of(conversation, "Write.")
    assert begun.text.startswith("Plan mode:") and over.text.startswith("Plan mode is over")
    assert "not available while planning" in results(refused)[0] and "Created a" in results(allowed)[0]
    told = [message.content for message in chat.asked[-1] if message.role == "user"]
    assert "You are in plan mode" in told[1] and told[1].endswith("Write.")
    assert "Plan mode is over" in told[2] and "plan mode" not in told[0]
    require_legal(chat.asked[-1])


async def test_a_policy_that_reads_its_tools_in_words_is_told_of_the_plans():
    prompts = []

    class Model:
        async def generate(self, messages, **settings):
            prompts.append(messages)
            return Reply(text="fine", finish_reason="stop", chunk=len(prompts) - 1)

    async with agent().converse(host(Model())) as conversation:
        await events_of(conversation, "Hi.")
        await events_of(conversation, "/plan")
        await events_of(conversation, "Go.")
    assert "submit_plan" not in prompts[0][0].content
    assert "submit_plan" in prompts[1][-1].content and '"plan"' in prompts[1][-1].content


async def test_the_tools_and_commands_are_listed(box):
    async with agent(exclude=("task",)).converse(host(ScriptedChat("never"), sandbox=box)) as conversation:
        (tools, _) = await events_of(conversation, "/tools")
        (helped, _) = await events_of(conversation, "/help")
        assert {"compact", "memory", "todo", "tools", "plan", "help"} <= set(conversation.commands)
    assert "shell  Run one shell command" in tools.text and "task" not in tools.text
    assert all(f"/{name}  " in helped.text for name in conversation.commands)


async def test_a_person_sees_at_once_what_compaction_brought(box):
    chat = ScriptedChat(call("shell", command="seq 1 1500"), "so far", "done")
    context = pipeline(SumUp(), context=40_000)
    async with agent().converse(host(chat, sandbox=box, asking="yes", context=context)) as conversation:
        assert (await events_of(conversation, "/compact"))[0] == Notice(text="There is nothing to compact yet.")
        await events_of(conversation, "Count.")
        events = await events_of(conversation, "/compact")
        again = await events_of(conversation, "/compact")
    assert [type(event) for event in events[:-1]] == [Compacted]
    assert again[0].text.startswith("Nothing was compacted")


async def test_the_use_of_tokens_is_told_and_corrects_the_log():
    noted = []

    class Measured(Transcript):
        def note_prompt(self, tokens):
            noted.append(tokens)

    class Counting(ScriptedChat):
        async def chat(self, messages, tools=(), **options) -> ChatReply:
            reply = await super().chat(messages, tools, **options)
            return ChatReply(message=reply.message, stop=reply.stop, usage=Usage(prompt=123, completion=4))

    async with agent().converse(host(Counting("hi"), context=Measured())) as conversation:
        events = await events_of(conversation, "Hello.")
    assert TokensUsed(agent_id="main", prompt=123, completion=4) in events and noted == [123]
    async with agent().converse(host(ScriptedChat("hi"))) as conversation:
        (used,) = [event for event in await events_of(conversation, "Hello.") if isinstance(event, TokensUsed)]
    assert used.estimated and used.prompt > 0


async def test_after_an_interruption_the_model_is_told_of_it(box):
    chat = ScriptedChat(call("shell", command="sleep 60"), "done")
    async with agent().converse(host(chat, sandbox=box, asking="yes")) as conversation:
        async for event in conversation.send("Sleep."):
            if isinstance(event, CallStarted):
                await conversation.interrupt()
        await events_of(conversation, "Rather not.")
    assert "You were interrupted" in chat.asked[-1][-1].content and chat.asked[-1][-1].content.endswith("Rather not.")


async def test_what_was_said_is_read_without_calls_results_and_reminders(box):
    chat = ScriptedChat(call("shell", command="true"), "done")
    async with agent(todo=True).converse(host(chat, sandbox=box, asking="yes")) as conversation:
        await box.write("note", b"attached")
        await events_of(conversation, "Look at @note.")
        assert conversation.spoken == [Spoken(who="person", text="Look at @note."), Spoken(who="agent", text="done")]


async def test_a_saved_conversation_is_taken_up_through_the_contract(tmp_path):
    async with agent().converse(host(ScriptedChat("one"))) as conversation:
        await events_of(conversation, "first")
        await conversation.save(tmp_path / "saved.json")
    chat = ScriptedChat("two")
    async with agent().converse(host(chat), tmp_path / "saved.json") as conversation:
        await events_of(conversation, "second")
    assert [message.content for message in chat.asked[0][1:]] == ["first", "one", "second"]
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(RegistryError, match="holds no conversation"):
        async with agent().converse(host(chat), tmp_path / "broken.json"):
            raise AssertionError("it was opened")


async def test_tumblers_own_errors_speak_for_themselves():
    def fail(_messages):
        raise InferenceError("the server is away")

    async with agent().converse(host(ScriptedChat(fail))) as conversation:
        assert (await events_of(conversation, "Hello."))[-1].text == "the server is away"


async def test_what_hooks_did_is_in_the_trajectorys_details(backend):
    settings = IflowSettings(
        hooks=({"event": "before_tool", "command": "exit 2"}, {"event": "session_end", "command": "true"})
    )
    replies = iter([call("shell", command="true"), "done"])
    trajectory = await episode(settings, lambda _prompt: text_of(next(replies)), backend)
    found = [(each["event"], each["outcome"]) for each in trajectory.details["hooks"]]
    assert found == [("before_tool", "blocked"), ("session_end", "passed")]
    quiet = await episode(IflowSettings(), lambda _prompt: "done", backend)
    assert "hooks" not in quiet.details


async def test_no_workflow_of_the_folder_that_a_person_is_in_starts_programs(tmp_path, monkeypatch):
    (tmp_path / "workflows" / "review").mkdir(parents=True)
    hook = f'[[hooks]]\nevent = "session_start"\nwhere = "host"\ncommand = "touch {tmp_path / "started"}"'
    (tmp_path / "workflows" / "review" / "workflow.toml").write_text(hook)
    monkeypatch.chdir(tmp_path)
    agent = IflowAgent(IflowSettings(workflow="review", workflows="workflows"))
    with pytest.raises(RegistryError, match="name an absolute path"):
        async with agent.converse(host(ScriptedChat("hello"))):
            pass
    assert not (tmp_path / "started").exists()


async def test_a_reply_that_said_nothing_is_not_sent_back_to_the_server():
    chat = ScriptedChat("", "hello")
    async with IflowAgent(IflowSettings()).converse(host(chat)) as conversation:
        await events_of(conversation, "one")
        await events_of(conversation, "two")
    assert [message.role for message in chat.asked[-1]] == ["system", "user"]
    assert chat.asked[-1][-1].content == "one\ntwo"
